"""From stored values to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def scale_to_unit(
    raw: npt.NDArray[Any],
    window: npt.NDArray[np.float64] | tuple[float, float],
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Scale stored values to float32 in [0, 1], into ``out`` if given: ``window`` = (value of 0, value of 1), clipped.

    A window that falls (first value above the second) inverts. NaN becomes 0.
    """
    low, high = np.float32(window[0]), np.float32(window[1])
    unit: npt.NDArray[np.float32] = np.empty(raw.shape, np.float32) if out is None else out
    if low == high:
        unit.fill(0.0)
        return unit
    if raw.dtype == np.uint8 and low == 0 and high == 255:  # nothing to clip: one pass, the same values
        np.divide(raw, high, out=unit)
        return unit
    np.subtract(raw, low, out=unit, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(unit, high - low, out=unit)
    np.clip(unit, 0.0, 1.0, out=unit)
    if raw.dtype.kind == "f":
        np.nan_to_num(unit, copy=False)
    return unit
