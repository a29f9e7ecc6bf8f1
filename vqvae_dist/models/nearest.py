"""The nearest code of each encoder output, and sums over those of a code, without a (positions x codes) matrix."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = {"cpu": 2**20, "cuda": 2**24}
"""Most distances held at once, however many positions and codes there are: on a CPU what its cache holds (4 MiB in
float32), on a GPU what keeps it busy."""

ROWS = 2**16
"""Rows that are worked on at once where a copy of all would be large."""


def nearest(flat: Tensor, codebook: Tensor) -> Tensor:
    """Index (N,) of the Euclidean nearest code for each of ``flat`` (N, D), a chunk at a time."""
    with torch.autocast(flat.device.type, enabled=False), torch.no_grad():
        # |z - e|^2 = |z|^2 + |e|^2 - 2 z.e, around a common mean: it moves no distance and keeps the terms small.
        mean = codebook.mean(0)
        codes = (codebook - mean).to(flat.dtype)
        half_norms = 0.5 * codes.square().sum(1)
        rows = max(1, CHUNK.get(flat.device.type, CHUNK["cpu"]) // len(codes))
        # min's index is the first of equal ones, as argmin's, and comes in two thirds of the time on a CPU.
        index = [torch.addmm(half_norms, z - mean, codes.T, alpha=-1.0).min(1).indices for z in flat.split(rows)]
        return index[0] if len(index) == 1 else torch.cat(index)


def code_sums(flat: Tensor, index: Tensor, K: int) -> Tensor:
    """Sum (K, D) over those of ``flat`` (N, D) with each ``index`` (N,).

    In float64, some rows at a time: 200 thousand equal background outputs, added one by one in float32, are off by
    a hundredth, and by another one on two processes.
    """
    sums = flat.new_zeros(K, flat.shape[1], dtype=torch.float64)
    for rows, codes in zip(flat.split(ROWS), index.split(ROWS), strict=True):
        sums.index_add_(0, codes, rows.double())
    return sums.to(flat.dtype)
