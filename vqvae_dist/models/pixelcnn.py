"""Gated PixelCNN over maps of codes (van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders).

The vertical stack sees the rows above a cell, the horizontal stack the cells to its left and, through a link, the
vertical stack; together they see every earlier cell within reach, with no blind spot. Nothing is masked: the codes are
shifted one row down or one cell right on entry (mask A), and from there each kernel ends at the cell itself (mask B).
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.counter_random import cell_uniforms
from vqvae_dist.models.causal_attention import CausalAttention
from vqvae_dist.models.conditioning import Condition, ConditionGates, Coordinates
from vqvae_dist.models.prior import CellSampler, Prior


def gated(features: Tensor) -> Tensor:
    """Gate ``features`` (B, 2C, ...): one half as tanh, opened by the other half as sigmoid, (B, C, ...)."""
    value, gate = features.chunk(2, dim=1)
    return value.tanh() * gate.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks, each with a residual connection; the kernels end at the cell itself."""

    def __init__(self, hidden: int, *, kernel: int, dilation: int) -> None:
        super().__init__()
        self.taps = kernel // 2 + 1
        self.dilation = dilation
        self.margin = dilation * (kernel // 2)
        self.vertical = nn.Conv2d(
            hidden, 2 * hidden, (self.taps, kernel), dilation=dilation, padding=(0, self.margin), bias=False
        )
        self.horizontal = nn.Conv2d(hidden, 2 * hidden, (1, self.taps), dilation=(1, dilation), bias=False)
        self.link = nn.Conv2d(hidden, 2 * hidden, 1, bias=False)
        self.output = nn.Conv2d(hidden, hidden, 1, bias=False)

    def forward(self, v: Tensor, h: Tensor, gates: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """Advance the vertical and horizontal features (B, C, h, w).

        Args:
            v: features of the rows above each cell.
            h: features of everything before each cell.
            gates: (B or 1, 4C, 1, 1), biases of the vertical and horizontal gates.
            kept: (B, C, 1, 1) channel-wise dropout factors, or None.
        """
        vertical_gates, horizontal_gates = gates.chunk(2, dim=1)
        above = gated(self.vertical(F.pad(v, (0, 0, self.margin, 0))) + vertical_gates)
        if kept is not None:
            above = above * kept
        left = self.horizontal(F.pad(h, (self.margin, 0, 0, 0)))
        both = gated(left + self.link(above) + horizontal_gates)
        if kept is not None:
            both = both * kept
        return v + above, h + self.output(both)


class PixelCNN(Prior):
    """The prior: the distribution of each code given the earlier ones in raster order. Any grid shape."""

    gates_per_channel = 4
    """Gate biases of a layer for each of its channels: a value and an opening, in each of two stacks."""

    def __init__(
        self,
        *,
        codebook_size: int,
        layers: int,  # gated layers
        hidden: int,  # channels of each stack
        kernel: int,  # width of the masked kernels, odd
        dilations: tuple[int, ...],  # of the layers, in a cycle
        attention: int,  # an attention block after every so many layers; 0 = none
        dropout: float,  # share of channels dropped; the training makes the masks
        condition_position: bool,
        classes: int,  # 0 = not conditioned on class
        condition_coordinates: bool = True,
        condition_flipped: bool = True,
    ) -> None:
        super().__init__()
        if kernel < 3 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
        self.codebook_size, self.hidden, self.dropout = codebook_size, hidden, dropout
        self.embedding = nn.Embedding(codebook_size, hidden)
        self.coordinates = Coordinates(hidden) if condition_coordinates else None
        gates = self.gates_per_channel * hidden
        self.gates = nn.Parameter(torch.zeros(layers * gates))  # one row, as biases are: no weight decay
        self.condition_gates = (
            ConditionGates(
                layers=layers, gates=gates, hidden=hidden,
                position=condition_position, classes=classes, flipped=condition_flipped,
            )
            if condition_position or classes or condition_flipped
            else None
        )  # fmt: skip
        self.layers = nn.ModuleList(
            self.layer(kernel=kernel, dilation=dilations[i % len(dilations)]) for i in range(layers)
        )
        self.attention = nn.ModuleDict(
            {str(i): CausalAttention(hidden) for i in range(layers) if attention and (i + 1) % attention == 0}
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, codebook_size, 1)
        )

    @classmethod
    def of(cls, config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> Self:
        """Give an untrained one by its settings."""
        return cls(
            codebook_size=codebook_size,
            layers=config.layers,
            hidden=config.hidden,
            kernel=config.kernel,
            dilations=config.dilations,
            attention=config.attention,
            dropout=config.dropout,
            condition_position=config.condition_position,
            condition_coordinates=config.condition_coordinates,
            classes=classes if config.condition_class else 0,
        )

    def layer(self, *, kernel: int, dilation: int) -> nn.Module:
        """Give an untrained layer; a prior of other layers gives its own, and says their ``gates_per_channel``."""
        return GatedLayer(self.hidden, kernel=kernel, dilation=dilation)

    def forward(self, codes: Tensor, condition: Condition, dropout_masks: Tensor | None = None) -> Tensor:
        """Give the logits (B, K, h, w) of ``codes`` (B, h, w).

        ``dropout_masks`` (B, layers, hidden) are factors of the channels of each layer, 0 or 1 / (1 - dropout).
        """
        embedded = self.embedding(codes).permute(0, 3, 1, 2)  # (B, h, w, C) -> (B, C, h, w)
        v = F.pad(embedded, (0, 0, 1, -1))  # a cell sees the row above
        h = F.pad(embedded, (1, -1, 0, 0))  # a cell sees its left neighbour
        if self.coordinates is not None:
            places = self.coordinates(*codes.shape[1:])
            v, h = v + places, h + places
        gates = self.gate_biases(condition)
        for i, layer in enumerate(self.layers):
            kept = None if dropout_masks is None else dropout_masks[:, i, :, None, None].to(h.dtype)
            v, h = self._run(layer, v, h, gates[:, i, :, None, None], kept)
            if str(i) in self.attention:
                h = self._run(self.attention[str(i)], h, embedded)
        logits: Tensor = self.head(h)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def gate_biases(self, condition: Condition) -> Tensor:
        """Give the biases of all gates, (B or 1, layers, gates); of two stacks: vertical, then horizontal."""
        biases = self.gates.view(1, len(self.layers), -1)
        return biases if self.condition_gates is None else biases + self.condition_gates(condition)

    def dropout_masks(self, keys: Tensor) -> Tensor | None:
        """Give the dropout masks (B, layers, hidden) that follow from one int64 key a sample (B,); None without."""
        if not self.dropout:
            return None
        kept = cell_uniforms(keys, len(self.layers) * self.hidden) >= self.dropout
        return kept.view(len(keys), len(self.layers), self.hidden) / (1 - self.dropout)

    def compiled_parts(self) -> list[nn.Module]:
        """Give layers, attention blocks and head."""
        return [*self.layers, *self.attention.values(), self.head]

    def sampler(self, grid: tuple[int, int], condition: Condition) -> CellSampler:
        """Give a sampler that computes each activation once."""
        from vqvae_dist.models.cached_pixelcnn import CachedPixelCNN  # which is built of the layers here

        return CachedPixelCNN(self, grid, condition)

    def _run(self, part: nn.Module, *inputs: Tensor | None) -> Any:
        """Run a layer or block; with ``recompute``, keep only its inputs for the backward pass."""
        if self.recompute and self.training:
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)
