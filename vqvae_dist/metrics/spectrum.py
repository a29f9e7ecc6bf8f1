"""How much detail of each size slices have: the radially averaged power spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-10
"""Added to a power before its logarithm: 100 dB under a frame of ones, less than the noise of 8-bit rounding."""


def radial_spectrum(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Power in dB at each radius of a slice (H, W): (min(H, W) // 2,), from 1 period a side to the finest.

    The slice is cut to its middle square, and weighted by a Hann window so that the borders make no cross.
    """
    side = min(image.shape)
    top, left = ((size - side) // 2 for size in image.shape)
    square = image[top : top + side, left : left + side].astype(np.float64)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2(square * np.outer(window, window))) ** 2 / side**4
    frequency = np.fft.fftfreq(side, d=1 / side)
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64)
    inside = (radius >= 1) & (radius <= side // 2)
    total = np.bincount(radius[inside], weights=power[inside], minlength=side // 2 + 1)[1:]
    count = np.bincount(radius[inside], minlength=side // 2 + 1)[1:]
    return np.asarray(10 * np.log10(total / count + FLOOR))


def spectrum_distance(real: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean over radii of the difference in dB between the mean spectra of two sets (N, radii), (M, radii)."""
    return float(np.abs(real.mean(0) - other.mean(0)).mean())
