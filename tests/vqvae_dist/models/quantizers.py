"""Small quantizers and encoder outputs for their tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqvae_dist.models.quantizer import CodeStatistics, Quantizer


def make(K: int = 16, D: int = 4, **options: Any) -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(K, D, **{"init": "normal", "revive_below": 0.0, **options})


def outputs(B: int = 2, D: int = 4, h: int = 6, w: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(B, D, h, w, generator=torch.Generator().manual_seed(seed))


def keys_of(B: int, first: int = 0) -> Tensor:
    return torch.arange(first, first + B, dtype=torch.int64) * 7919


def statistics_of(quantizer: Quantizer, z: Tensor, keys: Tensor | None = None) -> CodeStatistics:
    statistics = quantizer(z, keys_of(len(z)) if keys is None else keys).statistics
    assert isinstance(statistics, CodeStatistics)
    return statistics


def brute_force(flat: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(flat.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


def mri_like(seed: int, *, tissues: int = 200, N: int = 4000) -> Tensor:
    """60 % background at one point, the rest in clusters: (1, 8, 1, N)."""
    clusters = torch.randn(tissues, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed + 1)
    chosen = clusters[torch.randint(tissues, (N,), generator=generator)]
    flat = chosen + 0.05 * torch.randn(N, 8, generator=generator)
    flat[: int(0.6 * N)] = 0.01 * torch.randn(int(0.6 * N), 8, generator=generator)
    return flat.T[None, :, None, :]
