"""Training of VQ-VAEs and PixelCNNs on one process or many."""
