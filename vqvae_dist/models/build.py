"""Models from their settings."""

from __future__ import annotations

from vqvae_dist.config import PixelCNNModelConfig, VQVAEModelConfig
from vqvae_dist.models.fsq import FSQ
from vqvae_dist.models.pixelcnn import PixelCNN
from vqvae_dist.models.quantizer import Quantizer
from vqvae_dist.models.vqvae import VQVAE


def build_quantizer(config: VQVAEModelConfig) -> Quantizer:
    """An untrained quantizer of ``config.quantizer.kind``."""
    K, D, q = config.codebook_size, config.code_dim, config.quantizer
    if q.kind == "fsq":
        return FSQ(K, D)
    return Quantizer(
        K,
        D,
        kind=q.kind,
        distance=q.distance,
        decay=q.decay,
        init=q.init,
        revive_below=q.revive_below,
        gradient=q.gradient,
    )


def build_vqvae(config: VQVAEModelConfig) -> VQVAE:
    """An untrained VQ-VAE."""
    return VQVAE(
        hidden=config.hidden,
        residual_layers=config.residual_layers,
        residual_hidden=config.residual_hidden,
        downsample=config.downsample,
        codebook_size=config.codebook_size,
        code_dim=config.code_dim,
        norm=config.norm,
        upsample=config.upsample,
        quantizer=build_quantizer(config),
    )


def build_pixelcnn(config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> PixelCNN:
    """An untrained prior over ``codebook_size`` codes; ``classes`` are those of the training codes."""
    return PixelCNN(
        codebook_size=codebook_size,
        layers=config.layers,
        hidden=config.hidden,
        kernel=config.kernel,
        dilations=config.dilations,
        attention=config.attention,
        dropout=config.dropout,
        condition_position=config.condition_position,
        condition_coordinates=config.condition_coordinates,
        classes=classes if config.condition_class else 0,
    )
