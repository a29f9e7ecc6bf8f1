"""The VQ-VAE's loss: reconstruction + codebook + commitment (van den Oord et al. 2017, equation 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from vqvae_dist.config import LossConfig
from vqvae_dist.metrics.image import ssim
from vqvae_dist.models.vqvae import VQVAEOutput


class Losses(NamedTuple):
    """Means over a batch, float32 scalars."""

    total: Tensor
    reconstruction: Tensor
    commitment: Tensor


def edge_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error of the finite differences of (B, 1, H, W) along H and along W (Mathieu et al. 2016): ()."""
    difference = a - b
    return difference.diff(dim=-2).abs().mean() + difference.diff(dim=-1).abs().mean()


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "ssim": lambda a, b: 1.0 - ssim(a, b).mean(),
    "edges": edge_error,
}
"""Reconstruction terms; ``LossConfig`` has a weight of the same name for each."""


def vqvae_losses(images: Tensor, output: VQVAEOutput, config: LossConfig, commitment: float) -> Losses:
    """Loss of reconstructing ``images`` (B, 1, H, W) in [0, 1]; ``commitment`` weighs the commitment term."""
    weights = {name: getattr(config, name) for name in TERMS}
    terms = [weight * TERMS[name](output.reconstruction, images) for name, weight in weights.items() if weight]
    error = sum(terms[1:], start=terms[0])
    return Losses(error + output.codebook + commitment * output.commitment, error, output.commitment)
