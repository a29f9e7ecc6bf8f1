"""The layout of a packed-slices file: names, types, what makes a file ours, and its digest.

docs/data_format.md describes it in words.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from data_tools.console import CommandError, first_line
from data_tools.own_datasets import MAX_CHUNK_BYTES, MAX_COLUMN_CHUNK_BYTES, own_attributes, own_dataset, own_group

FORMAT = "brain-slices"
VERSION = 1
SPLITS = ("train", "validate", "test")
"""The column ``split`` holds an index into these."""

PIXEL_DTYPES = ("uint8", "uint16", "int16", "float32")
PIXEL_FILTERS = {"none": (3,), "lz4": (2, 32004, 3), "zstd": (2, 32015, 3)}
"""HDF5's numbers of the filters that each compression puts pixels through: 2 is shuffle, 3 the checksum."""

CHECKSUM_BYTES = 4
"""After the pixels of an uncompressed slice."""

MAX_SLICE_PIXELS = 1 << 26
"""The largest slice that is packed or read (8192 x 8192); a header that claims more is refused unread."""

COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "source": ("<u4", ()),
    "subject": ("<u4", ()),
    "slice_index": ("<i4", ()),
    "position": ("<f4", ()),
    "split": ("u1", ()),
    "label": ("<i4", ()),
    "window": ("<f8", (2,)),
    "sha256": ("u1", (32,)),
}
"""The datasets beside ``slices`` in a group: one entry a slice, with its little-endian type and shape."""

SOURCE_COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "sha256": ("u1", (32,)),
    "slope": ("<f8", ()),
    "intercept": ("<f8", ()),
    "noisy_air": ("u1", ()),
}
"""The number datasets of ``/sources``, one entry a file; ``path`` stands beside them."""

BLOCK_ROWS = 1024
"""Index columns are chunked, written, read and hashed in blocks of this many entries."""

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, MemoryError)
"""What h5py raises on a file that is not what it claims to be."""


@dataclass(frozen=True)
class SliceGroup:
    """The slices of one shape and depth."""

    name: str
    """As in the file, e.g. ``288x288_uint8``."""

    height: int
    width: int
    dtype: str
    count: int


def group_name(height: int, width: int, dtype: str) -> str:
    """Return the name of the group that holds slices of (height, width) and ``dtype``."""
    return f"{height}x{width}_{dtype}"


@contextlib.contextmanager
def damage_named(path: Path, part: str) -> Iterator[None]:
    """Turn what h5py raises on damage into a CommandError that names the file and the part."""
    try:
        yield
    except DAMAGE as error:
        raise damaged(path, part, error) from error


def damaged(path: Path, part: str, error: Exception) -> CommandError:
    """Return the error that names the file and the part, for what h5py raised."""
    return CommandError(f"{path}: {part} is damaged ({first_line(error)}); pack it again")


MADE_BY = "make one with: python -m data_tools pack SRC --output FILE.h5"


def open_packed(path: Path) -> h5py.File:
    """Open a packed file for reading, without locks, and check that it is ours and of our version."""
    if not path.is_file():
        what = "is a folder, not a packed file" if path.is_dir() else "no such file"
        raise CommandError(f"{path}: {what}; {MADE_BY}")
    try:
        # No chunk cache: a slice is a chunk, and is read whole. No locks: some cluster file systems have none.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise CommandError(f"{path}: not an HDF5 file, or damaged ({first_line(error)}); {MADE_BY}") from error
    try:
        with damage_named(path, "the header"):
            _check_header(path, file)
        with damage_named(path, "a table beside the slices"):
            _check_tables(path, file)
    except CommandError:
        file.close()
        raise
    return file


def _check_header(path: Path, file: h5py.File) -> None:
    about = own_attributes(file)
    name, version = about.get("format"), about.get("version")
    if name != FORMAT:
        raise CommandError(f"{path}: an HDF5 file, but not packed slices; {MADE_BY}")
    if version != VERSION:
        raise CommandError(f"{path}: version {version} of the format; this program reads version {VERSION}; {MADE_BY}")
    if not isinstance(about["digest"], str):
        raise ValueError("no digest")
    if about["compression"] != "none":
        import hdf5plugin  # noqa: F401  (registers the filters that the pixels need)


def _check_tables(path: Path, file: h5py.File) -> None:
    for column in ("path", *SOURCE_COLUMNS):
        _check_rows(path, len(own_dataset(file, f"sources/{column}")))
    for table in ("subjects", "classes"):
        own_dataset(file, f"{table}/name")


def _check_rows(path: Path, count: int) -> None:
    """Refuse more rows than a file of this size holds: each has an incompressible hash of 32 bytes."""
    if count * 32 > path.stat().st_size:
        raise ValueError(f"{count} rows are claimed, more than fit into it")


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes; those called ``*_json`` come parsed, under their name without that ending."""
    attributes: dict[str, Any] = {}
    for name, value in own_attributes(file).items():
        if name.endswith("_json"):
            name, value = name.removesuffix("_json"), json.loads(value)
        attributes[name] = value
    return attributes


def read_groups(path: Path, file: h5py.File) -> tuple[SliceGroup, ...]:
    """Return the groups of a file, sorted by name, after checking that each is what its name says."""
    with damage_named(path, "the list of groups"):
        images, filters = own_group(file, "images"), PIXEL_FILTERS[own_attributes(file)["compression"]]
        return tuple(_checked_group(path, own_group(images, name), name, filters) for name in sorted(images))


def _checked_group(path: Path, parent: h5py.Group, name: str, filters: tuple[int, ...]) -> SliceGroup:
    slices = own_dataset(parent, "slices", chunk_bytes=MAX_CHUNK_BYTES)
    count, height, width = slices.shape
    group = SliceGroup(name, height, width, str(slices.dtype), count)
    _check_rows(path, count)
    wanted: dict[str, tuple[tuple[int, ...], str]] = {"slices": ((height, width), group.dtype)}
    wanted |= {column: (shape, dtype) for column, (dtype, shape) in COLUMNS.items()}
    sound = (
        name == group_name(height, width, group.dtype)
        and group.dtype in PIXEL_DTYPES
        and 0 < height * width <= MAX_SLICE_PIXELS
        and all(_is_plain(parent, column, count, *kind) for column, kind in wanted.items())
        and slices.chunks == (1, height, width)
        and _filters(slices) == filters
    )
    if not sound:
        raise CommandError(f"{path}: /images/{name} is not what its name says; the file is damaged or not ours")
    return group


def _is_plain(group: h5py.Group, name: str, count: int, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether ``name`` is a dataset of this shape and type with checksums, which lies in this file."""
    dataset = own_dataset(group, name, chunk_bytes=MAX_CHUNK_BYTES if name == "slices" else MAX_COLUMN_CHUNK_BYTES)
    return dataset.shape == (count, *shape) and dataset.dtype == dtype and bool(dataset.fletcher32)


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    properties = dataset.id.get_create_plist()
    return tuple(properties.get_filter(number)[0] for number in range(properties.get_nfilters()))


def content_digest(file: h5py.File) -> str:
    """Return SHA-256 over pixel hashes, index and scaling of ``file``: what training sees, but no path or name."""
    digest = hashlib.sha256()
    for name in sorted(file["images"]):
        columns = [file[f"images/{name}/{column}"] for column in sorted(COLUMNS)]
        digest.update(json.dumps([name, len(columns[0])]).encode())
        for start in range(0, len(columns[0]), BLOCK_ROWS):
            for column in columns:
                digest.update(column[start : start + BLOCK_ROWS].tobytes())
    for name in sorted(SOURCE_COLUMNS):
        if name != "sha256":  # the files' hashes differ where the same pixels are stored otherwise
            column = file[f"sources/{name}"]
            for start in range(0, len(column), BLOCK_ROWS):
                digest.update(column[start : start + BLOCK_ROWS].tobytes())
    return digest.hexdigest()
