"""Models from their settings."""

from __future__ import annotations

from vqvae_dist.config import PixelCNNModelConfig, VQVAEModelConfig
from vqvae_dist.models.pixelcnn import PixelCNN
from vqvae_dist.models.quantizer import Quantizer
from vqvae_dist.models.vqvae import VQVAE


def build_vqvae(config: VQVAEModelConfig) -> VQVAE:
    """An untrained VQ-VAE."""
    q = config.quantizer
    quantizer = Quantizer(
        config.codebook_size,
        config.code_dim,
        kind=q.kind,
        distance=q.distance,
        decay=q.decay,
        init=q.init,
        revive_below=q.revive_below,
        gradient=q.gradient,
    )
    return VQVAE(
        hidden=config.hidden,
        residual_layers=config.residual_layers,
        residual_hidden=config.residual_hidden,
        downsample=config.downsample,
        codebook_size=config.codebook_size,
        code_dim=config.code_dim,
        norm=config.norm,
        upsample=config.upsample,
        quantizer=quantizer,
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
