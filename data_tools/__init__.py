"""Brain-MRI slices in, one packed HDF5 file out. Works without torch."""
