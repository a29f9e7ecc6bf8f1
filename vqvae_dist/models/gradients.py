"""How the decoder's gradient passes the choice of a code, which has none of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vqvae_dist.models.nearest import rows_at_once


class StraightThrough(torch.autograd.Function):
    """The code forward, the identity backward (Bengio et al. 2013), and the squared error (N,) of each position.

    Beside its inputs and outputs it holds no (positions x width) tensor forward, and one, the gradient, backward.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """``z`` (N, D), ``weight`` (K, D), ``index`` (N,) to codes (N, D) and errors (N,)."""
        code = F.embedding(index, weight)
        rows = rows_at_once(z.device)
        pairs = zip(z.split(rows), code.split(rows), strict=True)
        errors = torch.cat([(a - b).square_().sum(1) for a, b in pairs])
        ctx.save_for_backward(z, code)
        return code, errors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_code: Tensor, to_errors: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of z."""
        z, code = ctx.saved_tensors
        return (z - code).mul_(2.0 * to_errors[:, None]).add_(to_code), None, None


def straight_through(z: Tensor, weight: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The code forward, the identity backward; and squared errors (N,)."""
    quantized, errors = StraightThrough.apply(z, weight, index)
    return quantized, errors


def rotation(z: Tensor, weight: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The code as a fixed rotation and scaling of z (Fifty et al. 2024, "Restructuring vector quantization")."""
    code = F.embedding(index, weight)
    z_norm = z.detach().norm(dim=1, keepdim=True).clamp_min(1e-6)
    code_norm = code.norm(dim=1, keepdim=True).clamp_min(1e-6)
    a, b = z.detach() / z_norm, code / code_norm
    r = F.normalize(a + b, dim=1)
    rotated = z - 2 * r * (r * z).sum(1, keepdim=True) + 2 * b * (a * z).sum(1, keepdim=True)
    return rotated * (code_norm / z_norm), (z - code).square().sum(1)


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}
"""By the setting; from z (N, D), codes (K, D) and their numbers (N,) to codes (N, D) and squared errors (N,)."""
