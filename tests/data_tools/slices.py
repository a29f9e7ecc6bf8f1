"""Small slices and files that the tests of data_tools share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
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


def report(reader: SliceReader) -> dict[str, str]:
    """Why each skipped file was skipped."""
    entries = json.loads(reader.path.with_suffix(".report.json").read_text())["skipped"]
    return {entry["path"]: entry["reason"] for entry in entries}


def save_nifti(path: Path, voxels: Pixels, **header: float) -> None:
    """Write a NIfTI file, with ``slope`` and ``inter`` if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype)
    if header:
        image.header.set_slope_inter(header["slope"], header["inter"])
    nib.save(image, path)


def read_first(reader: SliceReader) -> Pixels:
    """The first slice of a file of one group."""
    return reader.read(only_group(reader), 0)
