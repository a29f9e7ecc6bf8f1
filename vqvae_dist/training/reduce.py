"""Codebook statistics of all ranks in one collective."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvae_dist.models.quantizer import CodeStatistics
from vqvae_dist.training.runtime import Runtime


def reduce_statistics(
    runtime: Runtime, statistics: CodeStatistics | None, extras: Tensor
) -> tuple[CodeStatistics | None, Tensor]:
    """Sum ``extras`` (E,) and the statistics over all ranks, and keep the best candidates of all.

    Candidates travel in a slot for each rank, the other slots zero, so that one sum carries everything.
    """
    if statistics is None:
        return None, runtime.sum(extras)
    counts, sums, error, scores, candidates = statistics
    (K, D), R, W = sums.shape, len(scores), runtime.processes
    slots = counts.new_zeros(W, R, D + 1)
    slots[runtime.rank] = torch.cat([scores[:, None], candidates], dim=1)
    # An empty place scores -inf, and -inf + 0 stays -inf.
    flat = torch.cat([extras.to(counts.dtype), counts, sums.flatten(), error[None], slots.flatten()])
    runtime.sum(flat)
    extras, counts, sums, error, gathered = flat.split([len(extras), K, K * D, 1, W * R * (D + 1)])
    offered = gathered.reshape(W * R, D + 1)
    best = torch.topk(offered[:, 0], R)
    return CodeStatistics(counts, sums.reshape(K, D), error[0], best.values, offered[best.indices, 1:]), extras
