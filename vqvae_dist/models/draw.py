"""Drawing codes from logits: temperature, top-k, top-p, and one uniform number a cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqvae_dist.counter_random import uniforms

CELL_STREAM = 6
"""Stream of ``counter_random`` that draws codes."""

CELLS_AT_MOST = 2**32
"""Numbers set apart for each sample."""


class Filter(NamedTuple):
    """How the distribution of a code is sharpened before drawing."""

    temperature: float = 1.0
    """Divides the logits; below 1 favours likely codes."""

    top_k: int = 0
    """Only the k likeliest codes may be drawn; 0 = all."""

    top_p: float = 1.0
    """Only the likeliest codes that together hold this probability may be drawn; 1 = all."""


def uniform_numbers(seed: int, samples: range, cells: int) -> Tensor:
    """Give one float64 in [0, 1) for each sample and cell, (B, cells).

    A row follows from the seed and the sample's number alone, whatever is drawn beside it.
    """
    counters = np.arange(samples.start, samples.stop)[:, None] * CELLS_AT_MOST + np.arange(cells)
    return torch.from_numpy(uniforms(seed, CELL_STREAM, counters))


def draw_codes(logits: Tensor, uniform: Tensor, kept: Filter) -> Tensor:
    """Draw a code for each row of ``logits`` (B, K) by inverting its distribution at ``uniform`` (B), (B,) int64."""
    probabilities = filtered_probabilities(logits, kept)
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Rounding may lift u * total to the total, past the last code that has a probability.
    target = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def filtered_probabilities(logits: Tensor, kept: Filter) -> Tensor:
    """Give the probabilities (B, K) that are drawn from, float64, zero where the filter leaves a code out.

    They need not sum to 1. Of codes with equal logits the lower ones are kept first.
    """
    scaled = logits.double() / kept.temperature
    if not kept.top_k and kept.top_p >= 1:
        return scaled.softmax(dim=-1)
    ordered, codes = scaled.sort(dim=-1, descending=True, stable=True)
    likeliest = ordered.softmax(dim=-1)
    if kept.top_k:
        likeliest[:, kept.top_k :] = 0
    if kept.top_p < 1:  # a code stays while the likelier ones do not yet hold top_p of what is left
        before = likeliest.cumsum(dim=-1) - likeliest
        likeliest = likeliest.where(before < kept.top_p * likeliest.sum(dim=-1, keepdim=True), 0)
    return torch.zeros_like(likeliest).scatter_(-1, codes, likeliest)
