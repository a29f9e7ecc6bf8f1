"""Modules only: the quantizer, the VQ-VAE and the PixelCNN."""
