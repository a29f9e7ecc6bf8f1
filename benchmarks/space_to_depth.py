"""A VQ-VAE whose encoder begins by folding blocks of pixels into channels, instead of strided convolutions.

Tried as a row of the ablation; it is no setting of the suite unless it earns its place there.
"""

from __future__ import annotations

from torch import nn

from vqvae_dist.config import VQVAEModelConfig
from vqvae_dist.models import build
from vqvae_dist.models.vqvae import VQVAE, ResidualBlock


class FoldingEncoder(nn.Sequential):
    """(B, 1, H, W) -> (B, D, H / f, W / f); everything is computed at the code resolution."""

    def __init__(self, config: VQVAEModelConfig) -> None:
        f, hidden = config.downsample, config.hidden
        super().__init__(
            nn.PixelUnshuffle(f),
            nn.Conv2d(f * f, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            *[ResidualBlock(hidden, config.residual_hidden, config.norm) for _ in range(config.residual_layers)],
            nn.ReLU(),
            nn.Conv2d(hidden, config.code_dim, 1),
        )


def build_vqvae(config: VQVAEModelConfig) -> VQVAE:
    """An untrained VQ-VAE with such an encoder."""
    model = build.build_vqvae(config)
    model.encoder = FoldingEncoder(config)  # type: ignore[assignment]  # another nn.Sequential of the same shapes
    return model
