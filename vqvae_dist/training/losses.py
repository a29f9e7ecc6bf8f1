"""The VQ-VAE's loss: reconstruction + codebook + commitment (van den Oord et al. 2017, equation 3)."""

from __future__ import annotations

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


def vqvae_losses(images: Tensor, output: VQVAEOutput, config: LossConfig, commitment: float) -> Losses:
    """Loss of reconstructing ``images`` (B, 1, H, W) in [0, 1]; ``commitment`` weighs the commitment term."""
    reconstruction = output.reconstruction
    terms = []
    if config.mse:
        terms.append(config.mse * F.mse_loss(reconstruction, images))
    if config.l1:
        terms.append(config.l1 * F.l1_loss(reconstruction, images))
    if config.ssim:
        terms.append(config.ssim * (1.0 - ssim(reconstruction, images).mean()))
    error = sum(terms[1:], start=terms[0])
    return Losses(error + output.codebook + commitment * output.commitment, error, output.commitment)
