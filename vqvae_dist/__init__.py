"""Training and inference of VQ-VAEs and PixelCNN priors on packed slices. Knows nothing of Slurm."""
