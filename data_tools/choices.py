"""What can be chosen when packing; light, so that a command line can be read without numpy."""

from __future__ import annotations

import math
from array import array
from typing import Literal

Axis = Literal["auto", "axial", "coronal", "sagittal"]
"""The plane of a NIfTI volume's slices; ``auto`` is axial by its affine."""

Compression = Literal["none", "lz4", "zstd"]

Window = tuple[float, float]
"""The values that become 0 and 1."""


def can_scale(window: Window) -> bool:
    """Whether pixels can be scaled by a window in float32: its ends are two numbers, a finite distance apart."""
    low, high = array("f", window)
    (width,) = array("f", [high - low])
    return math.isfinite(width) and width != 0
