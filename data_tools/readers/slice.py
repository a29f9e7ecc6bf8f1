"""What a slice is before it is packed, and the checks that every reader makes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data_tools.slice_format import MAX_SLICE_PIXELS

MAX_FILE_BYTES = 1 << 32
"""A larger file is refused: a file is read whole, so that its hash and its pixels are of the same moment."""

MAX_VOLUME_BYTES = 1 << 31
"""The most that one volume or DICOM file may unpack to, whatever its header claims."""

MAX_SLICES = 1 << 17
"""The most slices of one volume: a small file can claim a billion of one pixel, each with its own bookkeeping."""

MAX_DEFLATE_RATIO = 1032
"""zlib cannot pack better, so a small file that claims to hold much is found out before any memory is taken."""


class UnreadableError(Exception):
    """A file gives no slice. The text is the reason, in a few words, without the path."""


@dataclass(frozen=True)
class RawSlice:
    """A slice as it is stored in its file."""

    pixels: npt.NDArray[Any]
    """(H, W), of one of ``PIXEL_DTYPES``."""

    slope: float = 1.0
    intercept: float = 0.0
    """Real value = slope * stored value + intercept."""

    inverted: bool = False
    """Whether low values are bright (DICOM's MONOCHROME1)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept)) or self.slope == 0:
            raise UnreadableError(f"a rescale of slope {self.slope} and intercept {self.intercept} gives no values")


@dataclass(frozen=True)
class PlacedSlice:
    """A slice with its place in its volume."""

    slice: RawSlice
    index: int
    """Number within the volume, from 0."""

    position: float
    """Place within the volume, 0 to 1; 0.5 for a volume of one slice."""

    file: int = 0
    """Which of the volume's files it comes from."""


@dataclass(frozen=True)
class Volume:
    """The slices that are scaled together: an image, a NIfTI volume or a DICOM series."""

    slices: list[PlacedSlice]
    noisy_air: bool
    """Whether air is not exactly zero (DICOM, JPEG), so that the head must be found otherwise than by a threshold."""

    unreadable: dict[int, str] = field(default_factory=dict)
    """The reason for each file of the volume that gave no slice."""

    others: int = 0
    """How many further volumes the file holds (4-D NIfTI) that are not read."""


def spread(number: int, count: int) -> float:
    """Return the position of slice ``number`` of ``count``: 0 the first, 1 the last, 0.5 the only one."""
    return number / (count - 1) if count > 1 else 0.5


def check_sides(height: int, width: int) -> None:
    """Refuse a slice without pixels, or larger than any real one, before it is unpacked."""
    if height < 1 or width < 1:
        raise UnreadableError(f"a slice of {height}x{width} has no pixels")
    if height * width > MAX_SLICE_PIXELS:
        raise UnreadableError(f"a slice of {height}x{width} is larger than the limit of {MAX_SLICE_PIXELS} pixels")


def check_volume(slices: int, size: int) -> None:
    """Refuse a volume of more slices or bytes than is read at once, before it is unpacked."""
    if slices > MAX_SLICES:
        raise UnreadableError(f"it claims {slices} slices, more than the limit of {MAX_SLICES}")
    if size > MAX_VOLUME_BYTES:
        raise UnreadableError(f"it claims {size} bytes of pixels, more than the limit of {MAX_VOLUME_BYTES}")


def to_stored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``values`` in a type that a packed file holds, bit for bit the same numbers, or refuse.

    uint8, uint16, int16 and float32 stay; other integers become int16 or uint16 or float32, other floats
    float32, the first that is exact.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    kind = values.dtype.kind
    if values.dtype in (np.uint8, np.uint16, np.int16, np.float32):
        return values
    if kind not in "biuf":
        raise UnreadableError(f"pixels of type {values.dtype} are not supported; convert to a plain number type")
    for dtype in ("int16", "uint16", "float32") if kind in "biu" else ("float32",):
        # A value out of range wraps or overflows; that it did is seen in the comparison.
        with np.errstate(all="ignore"):
            stored = values.astype(dtype)
            again = stored.astype(values.dtype)
        if np.array_equal(again, values, equal_nan=kind == "f") and (kind == "f" or _same_ends(stored, values)):
            return stored
    raise UnreadableError(f"its {values.dtype} values fit neither int16 nor float32 exactly")


def _same_ends(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether least and largest value are equal: what wraps may wrap back (uint32 4294967295 to int16 -1)."""
    return bool(a.min().item() == b.min().item() and a.max().item() == b.max().item())


def reason(error: Exception) -> str:
    """Return in a few words why a file could not be read, also where a library says it at length."""
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
    if isinstance(error, UnreadableError):
        return text
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
