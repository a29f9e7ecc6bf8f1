"""From stored values to [0, 1]: which window a volume gets, and how much of a slice is not air."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_tools.choices import Window, can_scale
from data_tools.readers.slice import RawSlice, UnreadableError

PERCENTILE = 99.9
"""Of the non-zero voxels of a volume: the value that becomes 1. Above it are a few bright vessels and artefacts."""

FOREGROUND = 0.02
"""Share of the window above which a pixel is not air."""


def volume_window(slices: Sequence[RawSlice], chosen: Window | None) -> Window:
    """Return the window of a volume in real values (slope and intercept applied).

    ``chosen`` stands for every volume if given. Otherwise uint8 keeps 0 to 255, and everything else gets 0 (its
    minimum if negative) to the 99.9th percentile of the voxels that are not zero.
    """
    if chosen is not None:
        return chosen
    if all(one.pixels.dtype == np.uint8 for one in slices):
        slope, intercept = slices[0].slope, slices[0].intercept
        return intercept, 255 * slope + intercept
    values = _all_real_nonzero(slices)
    if not len(values):
        return 0.0, 1.0  # nothing but air
    low = min(0.0, float(values.min()))
    high = float(np.percentile(values, PERCENTILE, overwrite_input=True))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnreadableError("its values are too large to be scaled")
    return low, high if high > low else low + 1.0


def _all_real_nonzero(slices: Sequence[RawSlice]) -> npt.NDArray[Any]:
    """Return ``_real_nonzero`` of all slices as one array, which is the only copy."""
    kinds = {np.float64 if _is_scaled(one) else one.pixels.dtype for one in slices}
    values = np.empty(sum(one.pixels.size for one in slices), np.result_type(*kinds) if kinds else np.float32)
    count = 0
    for one in slices:
        kept = _real_nonzero(one)
        values[count : count + len(kept)] = kept
        count += len(kept)
    return values[:count]


def _is_scaled(one: RawSlice) -> bool:
    return (one.slope, one.intercept) != (1.0, 0.0)


def _real_nonzero(one: RawSlice) -> npt.NDArray[Any]:
    """Return the finite real values of a slice that are not zero, flat."""
    values = one.pixels
    if _is_scaled(one):
        values = values * np.float64(one.slope) + one.intercept
    keep = values != 0
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.any():
            raise UnreadableError("it holds no finite value")
        keep &= finite
    kept: npt.NDArray[Any] = values[keep]
    return kept


def stored_window(one: RawSlice, window: Window) -> Window:
    """Return ``window`` (real values) in the stored values of a slice; it falls where low values are bright."""
    low, high = ((end - one.intercept) / one.slope for end in window)
    if not can_scale((low, high)):
        raise UnreadableError(f"its window is {low} to {high} in stored values, by which nothing can be scaled")
    return (high, low) if one.inverted else (low, high)


def foreground_share(pixels: npt.NDArray[Any], window: Window) -> float:
    """Return which share of the stored ``pixels`` lies above 2 % of ``window``; 0 for a slice of one value."""
    low, high = window
    edge = low + FOREGROUND * (high - low)
    if pixels.dtype.kind != "f":
        edge = math.floor(edge) if high > low else math.ceil(edge)
        limits = np.iinfo(pixels.dtype)
        edge = min(max(int(edge), limits.min), limits.max)
    above = pixels > edge if high > low else pixels < edge
    if pixels.min() == pixels.max():
        return 0.0
    return float(np.count_nonzero(above) / pixels.size)
