"""What can be chosen when packing; light, so that a command line can be read without numpy."""

from __future__ import annotations

from typing import Literal

Axis = Literal["auto", "axial", "coronal", "sagittal"]
"""The plane of a NIfTI volume's slices; ``auto`` is axial by its affine."""

Compression = Literal["none", "lz4", "zstd"]

Window = tuple[float, float]
"""The values that become 0 and 1."""
