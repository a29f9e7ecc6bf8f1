"""Finite scalar quantization (Mentzer et al. 2023): each of D dimensions is rounded to L levels, so K = L^D codes.

There is no codebook to learn, so none that collapses; what the suite knows as the codebook is the grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvae_dist.config import VQVAEModelConfig
from vqvae_dist.config_quantizer import levels_of
from vqvae_dist.models.gradients import straight_through
from vqvae_dist.models.quantizer import CodeStatistics, Quantizer, QuantizerOutput


class FSQ(Quantizer):
    """K = L^D fixed codes with coordinates in [-1, 1]."""

    fixed = True

    def __init__(self, K: int, D: int) -> None:
        levels = levels_of(K, D)
        if levels is None:
            raise ValueError(f"K must be a whole number of levels to the power of D, got K = {K}, D = {D}")
        super().__init__(K, D, kind="fsq", init="normal", revive_below=0.0)
        self.levels = levels
        index = torch.arange(K)[:, None] // levels ** torch.arange(D) % levels
        self.weight.copy_((index - levels // 2) / (levels // 2))

    @classmethod
    def of(cls, config: VQVAEModelConfig) -> FSQ:
        """One by the settings of the model it belongs to."""
        return cls(config.codebook_size, config.code_dim)

    def forward(self, z_e: Tensor, keys: Tensor | None = None, samples: int = 0) -> QuantizerOutput:
        """Round ``z_e`` (B, D, h, w) to the grid, straight through; ``keys`` and ``samples`` as in ``Quantizer``."""
        with torch.autocast(z_e.device.type, enabled=False):
            B, D, h, w = z_e.shape
            flat = z_e.permute(0, 2, 3, 1).reshape(-1, D).to(torch.promote_types(z_e.dtype, torch.float32))
            bounded = self._bound(flat)
            places = self.levels ** torch.arange(D, device=flat.device)
            index = ((bounded.detach().round() + self.levels // 2).long() * places).sum(1)
            scaled = bounded / (self.levels // 2)
            code, errors = straight_through(scaled, self.weight, index)
            z_q = code.reshape(B, h, w, D).permute(0, 3, 1, 2)
            statistics = None if keys is None else self._statistics(scaled.detach(), index, errors.detach(), keys)
            zero = flat.new_zeros(())
            return QuantizerOutput(z_q, index.reshape(B, h, w), zero, zero, statistics, None)

    def _bound(self, flat: Tensor) -> Tensor:
        """Squash to just beyond the outermost levels; an even number of levels lies around -1/2."""
        half = (self.levels - 1) * 1.001 / 2
        offset = 0.5 if self.levels % 2 == 0 else 0.0
        return (flat + math.atanh(offset / half)).tanh() * half - offset

    @torch.no_grad()
    def update(self, statistics: CodeStatistics) -> None:
        """Only count; the grid stays."""
        self.counts.lerp_(statistics.counts.to(self.counts.dtype), 1.0 - self.decay)
