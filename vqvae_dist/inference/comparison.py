"""Comparing sets of slices with the evaluated ones: look, anatomy, detail, variety."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqvae_dist.metrics.anatomy import Anatomy, describe, distances_by_position, tissue_thresholds
from vqvae_dist.metrics.features import coverage, features, kernel_distance, train_features
from vqvae_dist.metrics.image import foreground_mask
from vqvae_dist.metrics.samples import PATCH, ms_ssim_diversity, sliced_wasserstein
from vqvae_dist.metrics.spectrum import radial_spectrum, spectrum_distance

PLACES = 16
"""Slices are compared with those of the same sixteenth of the volume."""

SEED = 0


class Description(NamedTuple):
    """What is kept of N slices."""

    anatomy: NDArray[np.float64]
    """(N, fields of ``Anatomy``)"""
    spectrum: NDArray[np.float64]
    """(N, radii) dB"""
    features: Tensor | None
    """(N, F); None without a net."""

    def of(self, rows: NDArray[np.int64]) -> Description:
        """Some of the slices."""
        chosen = None if self.features is None else self.features[torch.from_numpy(rows)]
        return Description(self.anatomy[rows], self.spectrum[rows], chosen)


class Comparison:
    """Compares sets of slices, one at the position of each evaluated slice, with the evaluated slices.

    Args:
        evaluated: (N, H, W) on [0, 1].
        positions: (N,) of them in their volumes, 0..1.
        train: ``reduced`` training slices (M, 1, h, w), for the feature net.
        noisy_air: whether air is noisy in these slices.
    """

    def __init__(self, evaluated: Tensor, positions: NDArray[np.floating], train: Tensor, *, noisy_air: bool) -> None:
        self.evaluated, self.noisy_air = evaluated, noisy_air
        self.places = np.minimum((positions * PLACES).astype(np.int64), PLACES - 1)
        self.thresholds = tissue_thresholds((image, foreground_mask(image, noisy_air)) for image in evaluated.numpy())
        self.net = None if len(train) < 2 else train_features(train, seed=SEED)
        self.described = self.describe(evaluated)

    def describe(self, images: Tensor) -> Description:
        """Everything of slices (N, H, W) that is compared cheaply."""
        anatomy = describe(images.numpy(), noisy_air=self.noisy_air, thresholds=self.thresholds)
        spectrum = np.stack([radial_spectrum(image) for image in images.numpy()])
        return Description(anatomy, spectrum, None if self.net is None else features(self.net, images))

    def describe_all(self, batches: Iterable[Tensor]) -> Description:
        """The same, batch by batch."""
        found = [self.describe(batch) for batch in batches]
        described = [one.features for one in found if one.features is not None]
        anatomy, spectrum = (np.concatenate(column) for column in list(zip(*found, strict=True))[:2])
        return Description(anatomy, spectrum, torch.cat(described) if described else None)

    def look(self, images: Tensor) -> dict[str, Any]:
        """Compare patches, and measure the set's own variety."""
        levels = sliced_wasserstein(self.evaluated, images, seed=SEED) if min(images.shape[-2:]) >= PATCH else {}
        return {
            "swd": float(np.mean(list(levels.values()))) if levels else None,
            "swd_levels": {str(pixels): distance for pixels, distance in levels.items()},
            "ms_ssim_diversity": ms_ssim_diversity(images, seed=SEED),
        }

    def shape(self, found: Description) -> dict[str, Any]:
        """Compare anatomy by position, detail and variety."""
        real = self.described
        pair = None if real.features is None or found.features is None else (real.features, found.features)
        return {
            "anatomy": distances_by_position(real.anatomy, found.anatomy, self.places),
            "one_head": float(found.anatomy[:, Anatomy._fields.index("one_head")].mean()),
            "spectrum_db": spectrum_distance(real.spectrum, found.spectrum),
            "coverage": coverage(*pair) if pair else None,
            "kid": kernel_distance(*pair, torch.from_numpy(self.places)) if pair else None,
        }

    def scores(self, images: Tensor) -> dict[str, Any]:
        """All of it."""
        return self.look(images) | self.shape(self.describe(images))


def mean_figures(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Average figures, and tables of figures, over several draws; None where none is known."""

    def mean(values: list[Any]) -> Any:
        if values and isinstance(values[0], dict):
            return mean_figures(values)
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return {name: mean([one[name] for one in figures]) for name in figures[0]} if figures else {}
