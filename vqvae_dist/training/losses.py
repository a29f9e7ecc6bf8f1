"""The VQ-VAE's loss: reconstruction + codebook + commitment (van den Oord et al. 2017, equation 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

from torch import Tensor

from vqvae_dist.config import LossConfig
from vqvae_dist.models.vqvae import VQVAEOutput
from vqvae_dist.training import loss_terms


class Losses(NamedTuple):
    """Means over a batch, float32 scalars."""

    total: Tensor
    reconstruction: Tensor
    commitment: Tensor


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    field.name: getattr(loss_terms, field.name) for field in fields(LossConfig)
}
"""Reconstruction terms, by the names of their weights."""


def vqvae_losses(images: Tensor, output: VQVAEOutput, config: LossConfig, commitment: float) -> Losses:
    """Loss of reconstructing ``images`` (B, 1, H, W) in [0, 1]; ``commitment`` weighs the commitment term."""
    weights = {name: getattr(config, name) for name in TERMS}
    terms = [weight * TERMS[name](output.reconstruction, images) for name, weight in weights.items() if weight]
    error = sum(terms[1:], start=terms[0])
    return Losses(error + output.codebook + commitment * output.commitment, error, output.commitment)
