"""Models from their settings."""

from __future__ import annotations

from pkgutil import resolve_name

from vqvae_dist.config import PixelCNNModelConfig, VQVAEModelConfig
from vqvae_dist.config_pixelcnn import PRIORS
from vqvae_dist.config_quantizer import QUANTIZERS
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
        stem=config.stem,
        upsample=config.upsample,
        quantizer=build_quantizer(config),
    )


def build_pixelcnn(config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> Prior:
    """An untrained prior of ``config.kind`` over ``codebook_size`` codes; ``classes`` are the training codes'."""
    kind: type[Prior] = resolve_name(PRIORS[config.kind].prior)
    return kind.of(config, codebook_size=codebook_size, classes=classes)
