"""k-means for the first codebook: foreground-balanced start, then Lloyd's iterations."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvae_dist.models.nearest import code_sums, nearest


def kmeans(samples: Tensor, K: int, *, iterations: int) -> Tensor:
    """K centres (K, D) of ``samples`` (S, D); without iterations they are samples.

    The start draws samples with probability in proportion to their squared distance from the median sample: in a
    head scan the median is background, so background does not take most of the codes. The draw is systematic
    (evenly spaced along the cumulative weights, samples sorted by distance): no random numbers, the same on every rank.
    """
    centre = samples.median(0).values
    weights = (samples - centre).square().sum(1).double()
    order = weights.argsort(stable=True)
    cumulative = weights[order].clamp_min(1e-12).cumsum(0)
    marks = (torch.arange(K, device=samples.device, dtype=torch.float64) + 0.5) / K * cumulative[-1]
    centres = samples[order[torch.searchsorted(cumulative, marks).clamp_max(len(samples) - 1)]].clone()
    for _ in range(iterations):
        index = nearest(samples, centres)
        counts = torch.bincount(index, minlength=K)[:, None]
        means = code_sums(samples, index, K) / counts.clamp_min(1)
        centres = torch.where(counts > 0, means, centres)
        # An empty cluster moves to a sample that is served worst.
        empty = torch.nonzero(counts[:, 0] == 0).flatten()[: len(samples)]
        if len(empty):
            errors = (samples - centres[index]).square().sum(1)
            centres[empty] = samples[errors.topk(len(empty)).indices]
    return centres
