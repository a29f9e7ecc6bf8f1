"""Small slices and files that the tests of data_tools share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_tools.slicefile import SliceReader

Pixels = npt.NDArray[Any]
Save = Callable[..., Path]
Pack = Callable[..., SliceReader]


def brain(height: int = 20, width: int = 24, seed: int = 0, dtype: str = "uint8") -> Pixels:
    """A slice that is mostly not empty and differs by seed."""
    top = 255 if dtype == "uint8" else 4000
    values = np.random.default_rng(seed).integers(1, top, (height, width))
    values[: height // 3] = 0
    return values.astype(dtype)


def only_group(reader: SliceReader) -> str:
    """The name of the one group of a file."""
    (group,) = reader.groups
    return group.name


def all_pixels(reader: SliceReader) -> list[Pixels]:
    """Every slice of a file, in order."""
    return [reader.read(group.name, row) for group in reader.groups for row in range(group.count)]
