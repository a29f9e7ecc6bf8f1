"""Datasets and attributes of an HDF5 file that hold what they claim in the file itself.

HDF5 lets a file point elsewhere (external links, virtual datasets, raw data in any other file), and claim a billion
rows of which it stores none. What we write does neither, so what does is not ours.
"""

from __future__ import annotations

from math import prod
from typing import Any

import h5py

MAX_CHUNK_BYTES = 1 << 28
"""The largest chunk: a slice of 2^26 float32 pixels. HDF5 unpacks a chunk whole, whatever is asked of it."""

MAX_COLUMN_CHUNK_BYTES = 1 << 25
"""The largest chunk of what is no picture: 1024 texts of 32 kB."""

MAX_NAMES_BYTES = 1 << 28
"""The most that a table of names may hold: four million of 64 bytes."""


def own_group(parent: h5py.Group, path: str) -> h5py.Group:
    """Return the group at ``path`` below ``parent``; ValueError where it is a link into another file, or no group."""
    group = _own(parent, path)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{path} is no group")
    return group


def own_dataset(parent: h5py.Group, path: str, *, chunk_bytes: int = MAX_COLUMN_CHUNK_BYTES) -> h5py.Dataset:
    """Return the dataset at ``path`` below ``parent``; ValueError where its data is not in this file, or oversized.

    A chunk, or a dataset without chunks, may have ``chunk_bytes``. Without chunks all of its data must be there.
    """
    dataset = _own_dataset(parent, path)
    if dataset.dtype.hasobject:
        raise ValueError(f"{path} is not an array of numbers or of texts of fixed length")
    block = prod(dataset.chunks or dataset.shape) * dataset.dtype.itemsize
    if block > chunk_bytes:
        raise ValueError(f"{path} has chunks of {block} bytes, more than the limit of {chunk_bytes}")
    return dataset


def own_names(parent: h5py.Group, path: str) -> list[str]:
    """Return a table of UTF-8 names; ValueError where it is not in this file, or larger than any real one."""
    dataset = own_dataset(parent, path, chunk_bytes=MAX_NAMES_BYTES)
    if dataset.ndim != 1 or dataset.dtype.kind != "S" or prod(dataset.shape) * dataset.dtype.itemsize > MAX_NAMES_BYTES:
        raise ValueError(f"{path} is no table of names of at most {MAX_NAMES_BYTES} bytes")
    return [name.decode() for name in dataset[:]]


def own_attributes(target: h5py.Group) -> dict[str, Any]:
    """Return the attributes as plain numbers and texts; ValueError for any other kind.

    Text of variable length lies where HDF5 keeps no checksum: in a damaged file its library can look for it for ever.
    """
    return {name: _own_attribute(target, name) for name in target.attrs}


def _own_attribute(target: h5py.Group, name: str) -> int | float | str:
    kind = h5py.h5a.open(target.id, name.encode()).get_type()
    is_fixed_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not (is_fixed_text or isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID)):
        raise ValueError(f"attribute {name} is neither a number nor a text of fixed length")
    value = target.attrs[name]
    plain: int | float | bytes | str = value if isinstance(value, bytes | str) else value.item()
    return plain.decode() if isinstance(plain, bytes) else plain


def _own_dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    dataset = _own(parent, path)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{path} is no array")
    if dataset.is_virtual or dataset.external is not None:
        raise ValueError(f"{path} is a view into other files")
    return dataset


def _own(parent: h5py.Group, path: str) -> Any:
    """Walk ``path`` link by link; every one must be a hard link."""
    found: Any = parent
    for name in path.split("/"):
        link = found.get(name, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            raise ValueError(f"{path} is missing")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path} is a link elsewhere")
        found = found[name]
    return found
