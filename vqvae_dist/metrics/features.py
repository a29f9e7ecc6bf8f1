"""Coverage and kernel distance in the features of a small net that learned from the training slices alone.

The net is taught to recognise a slice under small changes (Chen et al. 2020, "SimCLR"): shifts, contrast, brightness.
No downloaded weights: those of photographs say little of brains, and a figure that needs a download can't be repeated.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 48
"""Slices are averaged down to at most this many pixels a side."""

STEPS, BATCH, TEMPERATURE = 200, 32, 0.2

NEIGHBOURS = 5
"""A real slice's ball reaches to this one of its real neighbours (Naeem et al. 2020)."""


class FeatureNet(nn.Sequential):
    """(N, 1, s, s) -> (N, 64), of length 1."""

    def __init__(self) -> None:
        widths = (1, 16, 32, 64, 64)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64))


def train_features(small: Tensor, *, seed: int = 0) -> FeatureNet:
    """Teach a net on two or more ``reduced`` slices (N, 1, h, w); equal for equal slices and seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FeatureNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(STEPS):
        chosen = small[torch.randperm(len(small), generator=generator)[:BATCH]]
        views = torch.cat([changed(chosen, generator), changed(chosen, generator)])
        f = F.normalize(net(views), dim=1)
        logits = f @ f.T / TEMPERATURE
        logits.fill_diagonal_(-torch.inf)
        partner = torch.arange(len(views)).roll(len(chosen))
        loss = F.cross_entropy(logits, partner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@torch.no_grad()
def features(net: FeatureNet, images: Tensor) -> Tensor:
    """Features (N, 64) of slices (N, H, W)."""
    return torch.cat([F.normalize(net(part), dim=1) for part in reduced(images).split(256)])


def reduced(images: Tensor) -> Tensor:
    """Average (N, H, W) over square blocks to at most ``SIDE`` pixels: (N, 1, h, w)."""
    factor = -(-max(images.shape[-2:]) // SIDE)
    return F.avg_pool2d(images.float()[:, None], factor, ceil_mode=True)


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each of (N, 1, h, w) by up to an eighth of a side, and change its contrast a little."""
    N, _, h, w = images.shape
    reach = max(1, min(h, w) // 8)
    padded = F.pad(images, (reach,) * 4)
    tops, lefts = torch.randint(2 * reach + 1, (2, N), generator=generator).tolist()
    moved = torch.stack([one[:, i : i + h, j : j + w] for one, i, j in zip(padded, tops, lefts, strict=True)])
    gamma = 0.8 + 0.4 * torch.rand(N, 1, 1, 1, generator=generator)
    return moved.clamp_min(0) ** gamma


def coverage(real: Tensor, generated: Tensor) -> float | None:
    """Share of real slices (N, F) with a generated one (M, F) in their ball; None with too few real ones."""
    if len(real) <= NEIGHBOURS or not len(generated):
        return None
    radius = torch.cdist(real, real).kthvalue(NEIGHBOURS + 1, dim=1).values  # the nearest is the slice itself
    return float((torch.cdist(real, generated).amin(1) <= radius).double().mean())


def kernel_distance(real: Tensor, generated: Tensor, places: Tensor) -> float | None:
    """Squared maximum mean discrepancy with a cubic kernel (KID; Bińkowski et al. 2018), times 1000.

    ``real`` and ``generated`` (N, F) hold slices of the same ``places`` (N,) int64 in their volumes. Averaged over
    pairs of places, so that it has no bias: over pairs of slices alone, two sets that hold each place equally often
    look alike more than two that were drawn. Places with one slice say nothing of the spread there and are left out;
    None where all are.
    """
    number, count = torch.unique(places, return_inverse=True, return_counts=True)[1:]
    member = F.one_hot(number).T.double()[count > 1]  # (P, N)
    sizes = member.sum(1)
    if not len(sizes):
        return None
    x, y = real.double(), generated.double()

    def mean(a: Tensor, b: Tensor) -> Tensor:
        kernel = (a @ b.T + 1) ** 3
        sums, pairs = member @ kernel @ member.T, sizes[:, None] * sizes
        if a is b:  # no slice with itself
            sums -= torch.diag(member @ kernel.diagonal())
            pairs -= torch.diag(sizes)
        return (sums / pairs * sizes[:, None] * sizes).sum() / sizes.sum() ** 2

    return float(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)))
