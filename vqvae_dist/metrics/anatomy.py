"""What a slice shows, in numbers that a person could check by eye: head, tissues, ventricles, symmetry.

Meant for T1-weighted axial slices of a head on dark air. The definitions are simple on purpose: they are the same for
real and generated slices, so what is compared is a difference, not an absolute volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import wasserstein_distance
from skimage.filters import threshold_multiotsu
from skimage.measure import label

from vqvae_dist.metrics.image import MIN_FOREGROUND_PIXELS, foreground_mask

DEEP = 0.4
"""Fluid farther inside the head than this share of the head's largest depth counts as ventricle."""

ONE_PIECE = 0.99
"""A head is one where its largest 8-connected part holds this share of the foreground."""

Image = NDArray[np.floating]
Mask = NDArray[np.bool_]


class Anatomy(NamedTuple):
    """Of one slice (H, W); shares of pixels, 0..1."""

    area: float
    """Head over the frame."""
    fluid: float
    """Of the head: darkest of three classes."""
    grey: float
    white: float
    ventricles: float
    """Deep fluid over the frame."""
    symmetry: float
    """Correlation of the head with its mirror image about the middle of its width; 0 without a head."""
    one_head: float
    """1 where the foreground is one piece, else 0."""


def tissue_thresholds(images: Iterable[tuple[Image, Mask]]) -> tuple[float, float]:
    """Intensities between fluid, grey and white, by Otsu's method for three classes over all foreground pixels."""
    inside = np.concatenate([image[mask] for image, mask in images])
    if inside.size == 0 or np.unique(inside).size < 3:
        return 1 / 3, 2 / 3
    low, high = threshold_multiotsu(inside, classes=3)
    return float(low), float(high)


def anatomy(image: Image, mask: Mask, thresholds: tuple[float, float]) -> Anatomy:
    """Describe a slice by its foreground ``mask`` and the ``thresholds`` between tissues."""
    pixels = int(mask.sum())
    if pixels < MIN_FOREGROUND_PIXELS:
        return Anatomy(pixels / mask.size, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    low, high = thresholds
    fluid = mask & (image < low)
    white = mask & (image >= high)
    depth = distance_transform_edt(np.pad(filled(mask), 1))[1:-1, 1:-1]
    parts = np.bincount(label(mask).ravel())[1:]
    return Anatomy(
        area=pixels / mask.size,
        fluid=float(fluid.sum()) / pixels,
        grey=1 - float(fluid.sum() + white.sum()) / pixels,
        white=float(white.sum()) / pixels,
        ventricles=float((inner_fluid(image, mask, low) & (depth > DEEP * depth.max())).sum()) / mask.size,
        symmetry=symmetry(image, mask),
        one_head=float(parts.max() >= ONE_PIECE * pixels),
    )


def inner_fluid(image: Image, mask: Mask, low: float) -> Mask:
    """Dark pixels within the head's outline, black ones too: a dark ventricle may lie under the foreground's limit."""
    return np.asarray(filled(mask) & (image < low))


def filled(mask: Mask) -> Mask:
    """The head with its holes."""
    outside = label(np.pad(~mask, 1, constant_values=True), connectivity=1)
    return np.asarray((outside != outside[0, 0])[1:-1, 1:-1])


def symmetry(image: Image, mask: Mask) -> float:
    """Correlation between the head's box and its mirror image; 0 where the head is flat."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.where(mask, image, 0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    centred = box - box.mean()
    power = float((centred**2).sum())
    return float((centred * centred[:, ::-1]).sum()) / power if power > 0 else 0.0


def describe(images: Iterable[Image], *, noisy_air: bool, thresholds: tuple[float, float]) -> NDArray[np.float64]:
    """Describe slices: (N, fields of ``Anatomy``)."""
    found = [anatomy(image, foreground_mask(image, noisy_air), thresholds) for image in images]
    return np.array(found, dtype=np.float64).reshape(-1, len(Anatomy._fields))


def distances_by_position(
    real: NDArray[np.float64], other: NDArray[np.float64], places: NDArray[np.integer]
) -> dict[str, float]:
    """Wasserstein-1 distance of each field between two sets of slices (N, fields) at the same ``places`` (N,).

    Slices are compared with those of the same place alone, so that a set which draws every brain at the same height
    is seen; the mean over places, weighted by their slices. ``one_head`` is a share, not compared here.
    """
    result = {}
    for column, name in enumerate(Anatomy._fields[:-1]):
        total = 0.0
        for place in np.unique(places):
            here = places == place
            total += here.sum() * wasserstein_distance(real[here, column], other[here, column])
        result[name] = float(total / len(places))
    return result
