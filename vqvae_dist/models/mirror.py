"""What a cell of a code map knows of the cells opposite: the two halves of a head look alike."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Place = TypeVar("Place", int, Tensor)


class MirrorImage(nn.Module):
    """A linear map of the cells around each cell's mirror image in its own row, ``(B, C, h, w) -> (B, C, h, w)``.

    The row is mirrored at the middle of the grid; where a head stands beside it, ``reach`` cells to each side of the
    image make up for that. Cells that do not come before the cell itself in raster order count as zeros, so that what
    a cell of the left half gets is of the middle alone.
    """

    def __init__(self, hidden: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.taps = 2 * reach + 1
        self.project = nn.Linear(self.taps * hidden, hidden, bias=False)

    def forward(self, embedded: Tensor) -> Tensor:
        """Give what the cells opposite say, from all cells' codes ``embedded`` (B, C, h, w)."""
        w = embedded.shape[-1]
        opposite = F.pad(embedded.flip(-1), (self.reach, self.reach))
        windows = opposite.unfold(3, self.taps, 1).permute(0, 2, 3, 4, 1)  # (B, h, w, taps, C)
        cell, tap = torch.arange(w, device=embedded.device)[:, None], torch.arange(self.taps, device=embedded.device)
        earlier = self.opposite(cell, tap, w) < cell  # (w, taps)
        seen: Tensor = self.project((windows * earlier[:, :, None]).flatten(3))
        return seen.permute(0, 3, 1, 2)

    def opposite(self, cell: Place, tap: Place, w: int) -> Place:
        """Give the cell of a row of ``w`` that a tap of a cell reads; the same tap of that one reads the cell."""
        return w - 1 - cell - (tap - self.reach)
