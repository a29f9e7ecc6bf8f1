"""How far a PixelCNN sees: the cells that a logit depends on, found by walking its kernels backwards."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vqvae_dist.models.pixelcnn import GatedLayer, PixelCNN


def receptive_field(model: PixelCNN, grid: tuple[int, int], cell: tuple[int, int]) -> Tensor:
    """Tell which cells of an (h, w) ``grid`` the logits of ``cell`` depend on, (h, w) bool, from the shape alone.

    Far from the borders it reaches 1 + the sum of the layers' margins up and to the left, a margin being
    ``dilation * (kernel // 2)``. With an attention block it is everything before the cell.
    """
    h, w = grid
    row, column = cell
    if model.attention:
        return (torch.arange(h * w) < row * w + column).view(h, w)
    horizontal, vertical = torch.zeros(2, h, w, dtype=torch.bool)
    horizontal[row, column] = True
    for layer in reversed(list(model.layers)):
        assert isinstance(layer, GatedLayer)
        steps = range(0, layer.margin + 1, layer.dilation)
        above = vertical | horizontal  # the link reads the vertical stack at the cell itself
        horizontal = _union([_moved(horizontal, 0, left) for left in steps])
        sides = range(-layer.margin, layer.margin + 1, layer.dilation)
        vertical = _union([_moved(above, up, side) for up in steps for side in sides])
    return _moved(horizontal, 0, 1) | _moved(vertical, 1, 0)


def _moved(cells: Tensor, up: int, left: int) -> Tensor:
    """Move a map up and to the left (to the right where negative); what leaves the grid is gone."""
    h, w = cells.shape
    before, after = max(-left, 0), max(left, 0)
    return F.pad(cells, (before, after, 0, up))[up : up + h, after : after + w]


def _union(maps: list[Tensor]) -> Tensor:
    return torch.stack(maps).any(dim=0)
