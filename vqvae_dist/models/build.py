"""Models from their settings."""

from __future__ import annotations

from pkgutil import resolve_name

from vqvae_dist.config import PixelCNNModelConfig, VQVAEModelConfig
from vqvae_dist.config_quantizer import QUANTIZERS
from vqvae_dist.models.pixelcnn import PixelCNN
from vqvae_dist.models.prior import Prior
from vqvae_dist.models.quantizer import Quantizer
from vqvae_dist.models.vqvae import VQVAE


def build_quantizer(config: VQVAEModelConfig) -> Quantizer:
    """An untrained quantizer of ``config.quantizer.kind``."""
    kind: type[Quantizer] = resolve_name(QUANTIZERS[config.quantizer.kind].quantizer)
    return kind.of(config)


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


def build_pixelcnn(config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> Prior:
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
