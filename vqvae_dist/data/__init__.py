"""How trainings and inference read slices and codes, and in which order."""
