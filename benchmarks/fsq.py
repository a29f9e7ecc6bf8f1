"""Finite scalar quantization (Mentzer et al. 2023): each of a few dimensions is rounded to a few levels; no codebook.

Tried as a row of the ablation, with 8 x 8 x 8 levels for 512 codes; it is no setting of the suite unless it earns its
place there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvae_dist.config import VQVAEModelConfig
from vqvae_dist.models import build
from vqvae_dist.models.quantizer import CodeStatistics, Quantizer, QuantizerOutput
from vqvae_dist.models.vqvae import VQVAE


class FSQ(Quantizer):
    """K = L^D codes on a grid; what the suite knows as the codebook is the grid."""

    def __init__(self, K: int, D: int) -> None:
        levels = round(K ** (1 / D))
        if levels**D != K or levels % 2:
            raise ValueError(f"K must be an even number to the power of D, got K = {K}, D = {D}")
        super().__init__(K, D, init="normal", revive_below=0.0)
        self.levels = levels
        index = torch.arange(K)[:, None] // levels ** torch.arange(D) % levels
        self.weight.copy_((index - levels // 2) / (levels // 2))

    def forward(self, z_e: Tensor, keys: Tensor | None = None, samples: int = 0) -> QuantizerOutput:
        """Round ``z_e`` (B, D, h, w) to the grid, straight through."""
        with torch.autocast(z_e.device.type, enabled=False):
            B, D, h, w = z_e.shape
            flat = z_e.permute(0, 2, 3, 1).reshape(-1, D).to(torch.promote_types(z_e.dtype, torch.float32))
            half = (self.levels - 1) * 1.001 / 2
            bounded = (flat + math.atanh(0.5 / half)).tanh() * half - 0.5  # an even number of levels lies around -1/2
            rounded = bounded.round()
            index = ((rounded + self.levels // 2).long() * self.levels ** torch.arange(D, device=flat.device)).sum(1)
            code = self.weight[index]
            scaled = bounded / (self.levels // 2)
            z_q = (scaled + (code - scaled).detach()).reshape(B, h, w, D).permute(0, 3, 1, 2)
            statistics = None if keys is None else self._statistics(scaled.detach(), index, code, keys)
            zero = flat.new_zeros(())
            return QuantizerOutput(z_q, index.reshape(B, h, w), zero, zero, statistics, None)

    @torch.no_grad()
    def update(self, statistics: CodeStatistics) -> None:
        """Only count; the grid stays."""
        self.counts.lerp_(statistics.counts.to(self.counts.dtype), 1.0 - self.decay)


def build_vqvae(config: VQVAEModelConfig) -> VQVAE:
    """An untrained VQ-VAE with such a quantizer."""
    model = build.build_vqvae(config)
    model.quantizer = FSQ(config.codebook_size, config.code_dim)
    return model
