"""A PixelCNN of one masked stack (van den Oord et al. 2016, Pixel Recurrent Neural Networks), to compare with.

One convolution a layer whose kernel sees the rows above and the cells to the left. Stacked, such kernels never see a
wedge above and to the right: the blind spot that the prior's two stacks do not have. Everything else (embedding,
coordinates, conditions, gates, residuals, head) is that of the two stacks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.pixelcnn import PixelCNN, gated
from vqvae_dist.models.prior import CellSampler, WholePasses


class MaskedLayer(nn.Module):
    """A gated residual layer whose kernel ends at the cell itself."""

    mask: Tensor

    def __init__(self, hidden: int, *, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.conv = nn.Conv2d(hidden, 2 * hidden, (kernel // 2 + 1, kernel), dilation=dilation, bias=False)
        self.output = nn.Conv2d(hidden, hidden, 1, bias=False)
        mask = torch.ones(kernel // 2 + 1, kernel)
        mask[-1, kernel // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor, gates: Tensor, kept: Tensor | None) -> Tensor:
        """Advance (B, C, h, w) by one layer; ``gates`` (B or 1, 2C, 1, 1), ``kept`` as in the layers of two stacks."""
        margin = self.dilation * (self.kernel // 2)
        padded = F.pad(x, (margin, margin, margin, 0))
        out = gated(F.conv2d(padded, self.conv.weight * self.mask, dilation=self.dilation) + gates)
        update: Tensor = self.output(out if kept is None else out * kept)
        return x + update


class SingleStack(PixelCNN):
    """The PixelCNN with its two stacks replaced by one."""

    gates_per_channel = 2

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "attention": 0})

    def layer(self, *, kernel: int, dilation: int) -> nn.Module:
        """Give an untrained layer of the one stack."""
        return MaskedLayer(self.hidden, kernel=kernel, dilation=dilation)

    def forward(self, codes: Tensor, condition: Condition, dropout_masks: Tensor | None = None) -> Tensor:
        """Give the logits (B, K, h, w) of ``codes`` (B, h, w); ``dropout_masks`` as with two stacks."""
        embedded = self.embedding(codes).permute(0, 3, 1, 2)
        # The first layer must not see the cell itself: what enters is shifted by one cell in raster order.
        B, C, h, w = embedded.shape
        x = F.pad(embedded.flatten(2), (1, -1)).view(B, C, h, w)
        if self.coordinates is not None:
            x = x + self.coordinates(h, w)
        gates = self.gate_biases(condition)
        for i, layer in enumerate(self.layers):
            kept = None if dropout_masks is None else dropout_masks[:, i, :, None, None].to(x.dtype)
            x = self._run(layer, x, gates[:, i, :, None, None], kept)
        logits: Tensor = self.head(x)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def sampler(self, grid: tuple[int, int], condition: Condition) -> CellSampler:
        """Give a sampler that costs a forward pass a cell: the caches that there are are those of two stacks."""
        return WholePasses(self, grid, condition)
