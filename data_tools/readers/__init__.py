"""From a file's bytes to slices with their raw stored values: images, NIfTI, DICOM."""
