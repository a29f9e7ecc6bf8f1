"""How generated slices compare with real ones: their look, their variety, and whether they are copies.

A figure alone says little: each is read beside the same figure of real slices of other subjects (training against
test), at the same slice positions and in the same number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vqvae_dist.metrics.image import WINDOW, ssim_terms

PATCH = 7
"""Side of the patches of the sliced Wasserstein distance, in pixels of each level."""

SWD_LEVELS = 4
"""Native size, then halved: 288, 144, 72, 36 for slices of 288 pixels."""

_PATCHES, _DIRECTIONS = 65_536, 64  # of each level; with fewer patches their draw outweighs small differences

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales (Wang, Simoncelli and Bovik 2003)."""

NEAREST_SIDE = 72
"""Slices are compared at about this many pixels a side when the nearest training slice is looked for."""


class Nearest(NamedTuple):
    """The nearest training slice of each of N slices."""

    rmse: NDArray[np.float64]
    """(N,) on [0, 1], at low resolution."""
    number: NDArray[np.int64]
    """(N,) its place in the order in which the training slices came; -1 without any."""


def sliced_wasserstein(real: Tensor, generated: Tensor, *, seed: int = 0) -> dict[int, float]:
    """Give the sliced Wasserstein distance between the 7×7 patches of two sets, for each level of a pyramid.

    real (N, H, W), generated (M, H, W) on [0, 1] -> {pixels of the level's longer side: distance}. As Karras et al.
    2018 (appendix B): a Laplacian pyramid, so that a level compares detail of its own size alone; patches at random
    places, projected on random directions; the mean distance between the sorted projections. The patches are centred
    and scaled by the real set's mean and deviation alone, so that a difference in brightness or contrast counts, and
    both sets are cut at the same places, so that chance in the share of background does not. Levels smaller than a
    patch are left out. Equal for equal seed.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = {}
    for level_real, level_generated in zip(_laplacian_pyramid(real), _laplacian_pyramid(generated), strict=True):
        places = torch.rand(3, _PATCHES, generator=generator, dtype=torch.float64)
        a, b = (_patches(level, places) for level in (level_real, level_generated))
        mean, deviation = a.mean(), a.std().clamp_min(1e-8)
        directions = F.normalize(torch.randn(_DIRECTIONS, PATCH**2, generator=generator), dim=1)
        # numpy sorts five times as fast as torch on a CPU.
        sorted_a, sorted_b = (np.sort((directions @ ((x - mean) / deviation).T).numpy(), axis=1) for x in (a, b))
        distances[max(level_real.shape[-2:])] = float(np.abs(sorted_a - sorted_b).mean())
    return distances


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Give the multi-scale SSIM of pairs of images (B, 1, H, W) on [0, 1], as (B,).

    Wang, Simoncelli and Bovik 2003 with the 7×7 uniform window. A small image has fewer than five scales: those of at
    least 7 pixels a side, their weights scaled to sum to 1. Negative structure counts as 0.
    """
    scales = 1
    while scales < len(MS_SSIM_WEIGHTS) and min(a.shape[-2:]) >> scales >= WINDOW:
        scales += 1
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    result = torch.ones(a.shape[0], dtype=torch.promote_types(a.dtype, torch.float32), device=a.device)
    for scale, weight in enumerate(weights):
        luminance, structure = ssim_terms(a, b)
        last = scale == scales - 1
        score = (luminance * structure if last else structure).mean(dim=(1, 2, 3))
        result = result * score.clamp_min(0) ** float(weight)
        if not last:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result


def ms_ssim_diversity(images: Tensor, *, max_pairs: int = 1000, seed: int = 0) -> float | None:
    """Give the mean MS-SSIM between different images (N, H, W): lower is more varied; None with fewer than two.

    All pairs, or ``max_pairs`` drawn without replacement where there are more. Compare with real slices at the same
    positions: samples that are more alike than those have collapsed.
    """
    total = len(images) * (len(images) - 1) // 2
    if not total:
        return None
    numbers = np.random.default_rng(seed).choice(total, min(total, max_pairs), replace=False)
    # Pair n is (i, j), j < i, of the triangle below the diagonal, row after row.
    i = ((1 + np.sqrt(1 + 8 * numbers)) // 2).astype(np.int64)
    j = numbers - i * (i - 1) // 2
    chunks = torch.from_numpy(np.stack([i, j], axis=1)).split(32)
    scores = [ms_ssim(images[chunk[:, 0], None], images[chunk[:, 1], None]) for chunk in chunks]
    return float(torch.cat(scores).double().mean())


def nearest_train(images: Tensor, train_batches: Iterable[Tensor], *, max_shift: int = 4) -> Nearest:
    """Find the training slice nearest to each image, by RMSE at low resolution.

    images (N, H, W), batches (M, H, W) of the same shape, on [0, 1]. Both are averaged over square blocks to about
    ``NEAREST_SIDE`` pixels. Each image is compared as it is and mirrored left to right, shifted by up to ``max_shift``
    native pixels in steps of a block, the border pixels repeated; the best of these counts.
    """
    factor = max(1, round(max(images.shape[-2:]) / NEAREST_SIDE))
    variants = _shifted_and_flipped(_block_mean(images, factor), max_shift // factor)  # (V, N, h, w)
    queries = variants.flatten(2).double()
    V, N, pixels = queries.shape
    best, number = torch.full((N,), torch.inf, dtype=torch.float64), torch.full((N,), -1)
    seen = 0
    for batch in train_batches:
        train = _block_mean(batch, factor).flatten(1).double()
        # |q - t|² = |q|² + |t|² - 2 q·t, in float64: for a copy the three terms cancel to almost 0.
        products = (queries.flatten(0, 1) @ train.T).view(V, N, -1)
        squares = queries.square().sum(-1, keepdim=True) + train.square().sum(-1) - 2 * products
        nearest = squares.amin(dim=0).min(dim=1)
        number = torch.where(nearest.values < best, nearest.indices + seen, number)
        best = torch.minimum(best, nearest.values)
        seen += len(train)
    return Nearest((best.clamp_min(0) / pixels).sqrt().numpy(), number.numpy())


def _laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Split (N, H, W) into bands of detail, finest first, and the coarse rest."""
    levels = []
    current = images.float()[:, None]
    for level in range(SWD_LEVELS):
        smaller = [side // 2 for side in current.shape[-2:]]
        if level == SWD_LEVELS - 1 or min(smaller) < PATCH:
            break
        coarse = F.interpolate(current, size=smaller, mode="bilinear", antialias=True, align_corners=False)
        back = F.interpolate(coarse, size=current.shape[-2:], mode="bilinear", align_corners=False)
        levels.append((current - back)[:, 0])
        current = coarse
    return [*levels, current[:, 0]]


def _patches(images: Tensor, places: Tensor) -> Tensor:
    """Cut patches from (N, H, W) at relative ``places`` (3, P) in 0..1 of image, row and column: (P, 49)."""
    N, H, W = images.shape
    if min(H, W) < PATCH:
        raise ValueError(f"patches need images of at least {PATCH}x{PATCH} pixels, got {H}x{W}")
    limits = torch.tensor([N, H - PATCH + 1, W - PATCH + 1])
    image, top, left = (places * limits[:, None]).long()[:, :, None, None]
    offsets = torch.arange(PATCH)
    return images[image, top + offsets[:, None], left + offsets[None]].flatten(1)


def _block_mean(images: Tensor, factor: int) -> Tensor:
    """Average (N, H, W) over factor × factor blocks; black fills the blocks at the right and lower border."""
    H, W = images.shape[-2:]
    padded = F.pad(images.float(), (0, -W % factor, 0, -H % factor))
    return F.avg_pool2d(padded[:, None], factor)[:, 0]


def _shifted_and_flipped(images: Tensor, reach: int) -> Tensor:
    """Give all shifts by up to ``reach`` pixels of (N, h, w) and of its mirror image: (V, N, h, w)."""
    h, w = images.shape[-2:]
    padded = F.pad(torch.stack([images, images.flip(-1)]), (reach,) * 4, mode="replicate")
    steps = range(2 * reach + 1)
    return torch.cat([padded[:, :, i : i + h, j : j + w] for i in steps for j in steps])
