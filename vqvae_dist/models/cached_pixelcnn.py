"""Sampling from a PixelCNN with each activation computed once: about the work of one forward pass.

The vertical stack advances once a row, the horizontal stack once a cell, from caches as wide as the dilated kernels.
The idea: Ramachandran et al. 2017, Fast Generation for Convolutional Autoregressive Models.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor
from torch.nn import functional as F

from vqvae_dist.models.causal_attention import CausalAttention
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.pixelcnn import GatedLayer, PixelCNN, gated


class CachedPixelCNN:
    """A PixelCNN that takes the codes one by one: ``start_row``, then ``logits`` and ``accept`` for each cell."""

    def __init__(self, model: PixelCNN, grid: tuple[int, int], condition: Condition) -> None:
        self.model = model
        self.batch, self.grid = len(condition.position), grid
        weight = model.embedding.weight
        self.gates = model.gate_biases(condition.to(weight.device))[..., None, None]
        if model.coordinates is None:
            self.places = weight.new_zeros(1, weight.shape[1], *grid)
        else:
            self.places = model.coordinates(*grid)
        self.stacks = [
            _LayerCache(layer, self.batch, grid[1]) for layer in model.layers if isinstance(layer, GatedLayer)
        ]
        self.blocks = {
            int(i): _AttentionCache(block, self.batch, grid)
            for i, block in model.attention.items()
            if isinstance(block, CausalAttention)
        }
        self.head = [_matrix(part) for part in model.head if isinstance(part, torch.nn.Conv2d)]
        self.row, self.column = -1, 0

    def start_row(self, above: Tensor | None) -> None:
        """Run the vertical stack for the next row; ``above`` (B, w) are the codes of the row before, if any."""
        self.row, self.column = self.row + 1, 0
        places = self.places[:, :, self.row : self.row + 1]
        v = places.expand(self.batch, -1, -1, -1)
        if above is not None:
            v = v + self.model.embedding(above).transpose(1, 2).unsqueeze(2)  # (B, w, C) -> (B, C, 1, w)
        for i, stack in enumerate(self.stacks):
            v = stack.start_row(v, self.gates[:, i])
        self.entry = places[:, :, 0].permute(2, 0, 1).repeat(1, self.batch, 1)  # (w, B, C), what enters at each cell

    def logits(self) -> Tensor:
        """Give the logits (B, K) of the next cell."""
        h = self.entry[self.column]
        for i, stack in enumerate(self.stacks):
            h = stack.advance(h, self.column)
            if i in self.blocks:
                h = self.blocks[i].advance(h)
        for weight, bias in self.head:
            h = torch.addmm(bias, h.relu(), weight)
        return h

    def accept(self, codes: Tensor) -> None:
        """Take the codes (B,) of the cell whose logits were given last."""
        embedded = self.model.embedding(codes)
        for block in self.blocks.values():
            block.accept(embedded)
        self.column += 1
        if self.column < self.grid[1]:
            self.entry[self.column] += embedded


class _LayerCache:
    """A gated layer of the sampler: the rows it still needs above, the cells it still needs to the left."""

    def __init__(self, layer: GatedLayer, batch: int, width: int) -> None:
        self.layer = layer
        weight = layer.horizontal.weight
        hidden, self.taps = weight.shape[1], layer.taps
        self.rows: deque[Tensor] = deque(maxlen=layer.margin + 1)
        empty = weight.new_zeros(batch, hidden, 1, width)
        self.rows.extend([empty] * (layer.margin + 1))
        # (2C, C, 1, taps) -> (taps * C, 2C): the oldest tap first, as the cache lies in memory
        self.horizontal = weight[:, :, 0].permute(2, 1, 0).reshape(-1, 2 * hidden).contiguous()
        self.output = layer.output.weight[:, :, 0, 0].T.contiguous()
        self.windows, self.cells = self._cache_views(weight.new_zeros(1), batch, width, hidden)

    def _cache_views(self, like: Tensor, batch: int, width: int, hidden: int) -> tuple[list[Tensor], list[Tensor]]:
        """Lay the cells out so that the taps of each cell are neighbours in memory, whatever the dilation.

        Cells with equal remainder by the dilation stand together, after ``taps - 1`` empty ones. Of each column, give
        the view of its taps (B, taps * C) and of its own cell (B, C).
        """
        dilation, padding = self.layer.dilation, self.taps - 1
        slots = padding + -(-width // dilation)
        cache = like.new_zeros(batch, dilation, slots * hidden)
        windows, cells = [], []
        for column in range(width):
            start, phase = column // dilation * hidden, column % dilation
            windows.append(cache[:, phase, start : start + self.taps * hidden])
            cells.append(windows[-1][:, padding * hidden :])
        return windows, cells

    def start_row(self, v: Tensor, gates: Tensor) -> Tensor:
        """Advance the vertical features (B, C, 1, w) of a row and keep what the horizontal stack needs of them."""
        self.rows.append(v)
        vertical_gates, horizontal_gates = gates.chunk(2, dim=1)
        needed = torch.cat(list(self.rows)[:: self.layer.dilation], dim=2)
        above = gated(self._vertical(needed) + vertical_gates)
        self.before = (self.layer.link(above) + horizontal_gates)[:, :, 0].permute(2, 0, 1).contiguous()  # (w, B, 2C)
        return v + above

    def _vertical(self, rows: Tensor) -> Tensor:
        """Apply the vertical kernel to just the rows it reads, (B, C, taps, w) -> (B, 2C, 1, w)."""
        dilation, margin = (1, self.layer.dilation), (0, self.layer.margin)
        return F.conv2d(rows, self.layer.vertical.weight, dilation=dilation, padding=margin)

    def advance(self, h: Tensor, column: int) -> Tensor:
        """Advance the horizontal features (B, C) of a cell."""
        self.cells[column].copy_(h)
        both = gated(torch.addmm(self.before[column], self.windows[column], self.horizontal))
        return torch.addmm(h, both, self.output)


class _AttentionCache:
    """An attention block of the sampler: the keys and values of the cells so far."""

    def __init__(self, block: CausalAttention, batch: int, grid: tuple[int, int]) -> None:
        self.block, self.seen = block, 1
        start = block.start_answer(batch)
        self.answers = [part.new_zeros(batch, block.heads, grid[0] * grid[1] + 1, part.shape[-1]) for part in start]
        self._store(start, 0)

    def _store(self, answers: tuple[Tensor, Tensor], place: int) -> None:
        for kept, part in zip(self.answers, answers, strict=True):
            kept[:, :, place : place + 1] = part

    def advance(self, h: Tensor) -> Tensor:
        """Add to the features (B, C) of a cell what the earlier cells answer."""
        self.cell = self.block.norm(h).unsqueeze(1)
        key, value = (part[:, :, : self.seen] for part in self.answers)
        attended = F.scaled_dot_product_attention(self.block.questions(self.cell), key, value)
        update: Tensor = self.block.output(attended.flatten(1))
        return h + update

    def accept(self, embedded: Tensor) -> None:
        """Let the cell answer later ones, now that its code, as ``embedded`` (B, C), is known."""
        self._store(self.block.answers(self.cell, embedded.unsqueeze(1)), self.seen)
        self.seen += 1


def _matrix(part: torch.nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert part.bias is not None
    return part.weight[:, :, 0, 0].T.contiguous(), part.bias
