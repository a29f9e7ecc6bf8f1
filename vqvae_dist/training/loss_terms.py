"""The terms of the reconstruction loss, each named as its weight in ``LossConfig``.

A term takes reconstruction and images (B, 1, H, W) and gives a () tensor, 0 where they are equal. A further one is a
function here and its weight there, ``younger(default=0.0)``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vqvae_dist.metrics import image


def mse(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(reconstruction, images)


def l1(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(reconstruction, images)


def ssim(reconstruction: Tensor, images: Tensor) -> Tensor:
    """1 - mean SSIM."""
    return 1.0 - image.ssim(reconstruction, images).mean()


def edges(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error of the finite differences along H and along W (Mathieu et al. 2016)."""
    difference = reconstruction - images
    return difference.diff(dim=-2).abs().mean() + difference.diff(dim=-1).abs().mean()
