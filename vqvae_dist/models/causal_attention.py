"""Self-attention over the cells of a code map, each cell seeing only the cells before it in raster order."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalAttention(nn.Module):
    """A residual attention block, ``(B, C, h, w) -> (B, C, h, w)``.

    A cell asks with its features, which know only earlier cells. It answers with its features and its own
    code, so it may answer later cells only: the keys are shifted by one cell, and a learned start key takes
    the first place.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = math.gcd(hidden, 4)
        self.norm = nn.RMSNorm(hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key_value = nn.Linear(2 * hidden, 2 * hidden, bias=False)
        self.start = nn.Parameter(torch.zeros(2 * hidden))
        self.output = nn.Linear(hidden, hidden)

    def forward(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Add to ``features`` what the earlier cells answer; ``embedded`` (B, C, h, w) are their codes."""
        cells = self.norm(features.flatten(2).transpose(1, 2))  # (B, C, h, w) -> (B, h*w, C)
        codes = embedded.flatten(2).transpose(1, 2)
        key, value = self.answers(cells, codes)
        start_key, start_value = self.start_answer(features.shape[0])
        key = torch.cat([start_key.to(key.dtype), key[:, :, :-1]], dim=2)
        value = torch.cat([start_value.to(value.dtype), value[:, :, :-1]], dim=2)
        attended = F.scaled_dot_product_attention(self.questions(cells), key, value, is_causal=True)
        update: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return features + update.transpose(1, 2).reshape(features.shape)

    def questions(self, cells: Tensor) -> Tensor:
        """Give the queries of normalised ``cells`` (B, n, C) as (B, heads, n, C / heads)."""
        return self._split(self.query(cells))

    def answers(self, cells: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Give the keys and values of ``cells`` and their ``codes`` (B, n, C), (B, heads, n, C / heads) each."""
        key, value = self.key_value(torch.cat([cells, codes.to(cells.dtype)], dim=-1)).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def start_answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """Give the key and value that stand before the first cell, (batch, heads, 1, C / heads) each."""
        key, value = self.start.expand(batch, 1, -1).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def _split(self, cells: Tensor) -> Tensor:
        B, n, C = cells.shape
        return cells.reshape(B, n, self.heads, C // self.heads).transpose(1, 2)
