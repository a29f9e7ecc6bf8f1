"""The nearest code of each encoder output, and sums over those of a code, without a (positions x codes) matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = {"cpu": 2**19, "cuda": 2**24}
"""Most scores held at once, however many positions and codes there are: on a CPU what its cache holds (2 MiB in
float32), on a GPU what keeps it busy."""

ROWS = {"cpu": 2**12, "cuda": 2**16}
"""Rows that are worked on at once where a copy of all would be large: on a CPU what its cache holds, as above."""


FAST_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""The product of oneDNN, as compiled networks call it: on AMD processors twice as fast as that of MKL, which
``F.linear`` takes in float32."""


def rows_at_once(device: torch.device) -> int:
    """Of ``ROWS``, those of a device."""
    return ROWS.get(device.type, ROWS["cpu"])


def nearest(flat: Tensor, codebook: Tensor, surcharge: Tensor | None = None) -> Tensor:
    """Index (N,) of the Euclidean nearest code for each of ``flat`` (N, D), a chunk at a time.

    ``surcharge`` (K,) is added to the squared distance to each code.
    """
    with torch.autocast(flat.device.type, enabled=False), torch.no_grad():
        # |z - e|^2 = |z|^2 + |e|^2 - 2 z.e, around a common mean: it moves no distance and keeps the terms small.
        mean = codebook.mean(0)
        codes = (codebook - mean).to(flat.dtype)
        bias = -0.5 * codes.square().sum(1)
        if surcharge is not None:
            bias = bias - 0.5 * surcharge.to(flat.dtype)
        rows = max(1, CHUNK.get(flat.device.type, CHUNK["cpu"]) // len(codes))
        index = flat.new_empty(len(flat), dtype=torch.int64)
        for z, found in zip(flat.split(rows), index.split(rows), strict=True):
            found.copy_(first_highest(linear(z - mean, codes, bias)))
        return index


def linear(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``z`` (N, D) . ``weight`` (K, D) + ``bias`` (K,) as (N, K), in the precision of ``z``."""
    if FAST_LINEAR and z.device.type == "cpu" and z.dtype == torch.float32:
        scores: Tensor = FAST_LINEAR(z, weight, bias, "none", [], "")
        return scores
    return F.linear(z, weight, bias)


def first_highest(scores: Tensor) -> Tensor:
    """Index (N,) of the first of the highest of each row of ``scores`` (N, K), which are overwritten on a CPU.

    There, passes over whole vectors take a third of the time of ``max``, which follows the index a number at a time.
    A row with NaN gets a code too: that it is not finite is found in the loss.
    """
    if scores.device.type != "cpu":
        return scores.max(1).indices
    K = scores.shape[1]
    highest = scores.amax(1, keepdim=True)
    left = torch.arange(K, 0, -1, dtype=scores.dtype)  # exact in float32 up to 2**24 codes
    scores.eq_(highest).mul_(left)
    return (K - scores.amax(1).clamp_min_(1)).long()


def code_sums(flat: Tensor, index: Tensor, K: int) -> Tensor:
    """Sum (K, D) over those of ``flat`` (N, D) with each ``index`` (N,).

    In float64, some rows at a time: 200 thousand equal background outputs, added one by one in float32, are off by
    a hundredth, and by another one on two processes.
    """
    sums = flat.new_zeros(K, flat.shape[1], dtype=torch.float64)
    at_once = rows_at_once(flat.device)
    for rows, codes in zip(flat.split(at_once), index.split(at_once), strict=True):
        sums.index_add_(0, codes, rows.double())
    return sums.to(flat.dtype)
