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
        code, errors, rows = torch.empty_like(z), z.new_empty(len(z)), rows_at_once(z.device)
        parts = zip(z.split(rows), code.split(rows), index.split(rows), errors.split(rows), strict=True)
        for some, chosen, numbers, error in parts:
            torch.index_select(weight, 0, numbers, out=chosen)
            torch.sum((some - chosen).square_(), 1, out=error)
        ctx.save_for_backward(z, code)
        return code, errors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_code: Tensor, to_errors: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of z."""
        z, code = ctx.saved_tensors
        gradient, scale, rows = torch.empty_like(z), 2.0 * to_errors[:, None], rows_at_once(z.device)
        parts = zip(*(tensor.split(rows) for tensor in (z, code, scale, to_code, gradient)), strict=True)
        for some, chosen, factor, passed, to_z in parts:
            torch.sub(some, chosen, out=to_z).mul_(factor).add_(passed)
        return gradient, None, None


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
