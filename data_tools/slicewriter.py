"""Writing a packed-slices file as a stream: ``SliceEncoder`` in the workers, ``SliceWriter`` in one process.

The workers run HDF5's own filters (checksum, compression) in an in-memory file and send the finished chunk; the
writer only appends it. So the slow part runs on every core, and the bytes are those that HDF5 would have written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from data_tools.choices import Compression
from data_tools.slice_format import (
    BLOCK_ROWS,
    COLUMNS,
    FORMAT,
    SOURCE_COLUMNS,
    VERSION,
    content_digest,
    group_name,
)

# Fixed, so that the bytes do not depend on the version of HDF5. From 1.10 on every block of metadata has a checksum.
_LIBVER = ("v110", "v110")


class EncodedSlice(NamedTuple):
    """A slice on its way from a worker to the file."""

    height: int
    width: int
    dtype: str
    filter_mask: int
    chunk: bytes
    """The pixels as they will lie in the file."""

    slice_index: int
    position: float
    window: tuple[float, float]
    sha256: bytes
    """Of the stored pixels: little endian, row by row."""


class SliceEncoder:
    """Turns pixels into the bytes of their chunk."""

    def __init__(self, compression: Compression) -> None:
        self._filters = pixel_filters(compression)
        self._file = h5py.File(
            f"memory-{id(self)}", "w", driver="core", backing_store=False, libver=_LIBVER, rdcc_nbytes=0
        )

    def encode(self, raw: npt.NDArray[Any]) -> tuple[int, bytes]:
        """Return the filter mask and the bytes of the chunk that holds ``raw`` (H, W)."""
        height, width = raw.shape
        name = group_name(height, width, str(raw.dtype))
        if name not in self._file:
            _create_pixels(self._file, name, raw.shape, str(raw.dtype), self._filters)
        dataset = self._file[name]
        dataset.resize(1, axis=0)
        dataset[0] = raw
        dataset.flush()
        return dataset.id.read_direct_chunk((0, 0, 0))  # type: ignore[no-any-return]


def pixel_filters(compression: Compression) -> dict[str, Any]:
    """Return the HDF5 filters of the pixels as arguments of ``create_dataset``; the checksum is always there."""
    if compression == "none":
        return {"fletcher32": True}
    import hdf5plugin

    kind = hdf5plugin.LZ4() if compression == "lz4" else hdf5plugin.Zstd()
    return {"fletcher32": True, "shuffle": True, **kind}


def _create_pixels(
    parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, filters: Mapping[str, Any]
) -> h5py.Dataset:
    kind = np.dtype(dtype).newbyteorder("<")
    return parent.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(1, *shape), **filters)


class SliceWriter:
    """Appends sources and slices to a new packed file; memory does not grow with their number."""

    def __init__(self, path: Path, *, compression: Compression, path_bytes: int) -> None:
        """Start a file; ``path_bytes`` is the length of the longest path that will come, in UTF-8."""
        self._file = h5py.File(path, "w", libver=_LIBVER, locking=False)
        self._compression = compression
        self._filters = pixel_filters(compression)
        self._groups: dict[str, _Group] = {}
        sources = self._file.create_group("sources")
        self._paths = _Column.of_text(sources, "path", path_bytes)
        self._sources = {name: _Column(sources, name, *kind) for name, kind in SOURCE_COLUMNS.items()}
        self._images = self._file.create_group("images")

    def add_source(self, path: str, **columns: Any) -> int:
        """Append a file and what is known of it (``SOURCE_COLUMNS``); return its number."""
        for name, column in self._sources.items():
            column.append(columns[name])
        return self._paths.append(path.encode())

    def add_slice(self, encoded: EncodedSlice, *, source: int, subject: int, label: int) -> None:
        """Append a slice to the group of its shape and depth. Its split is decided in ``finish``."""
        name = group_name(encoded.height, encoded.width, encoded.dtype)
        if name not in self._groups:
            self._groups[name] = _Group(self._images.create_group(name), encoded, self._filters)
        self._groups[name].append(encoded, source=source, subject=subject, label=label)

    def write_names(self, table: str, names: Iterable[str], width: int) -> None:
        """Write ``/TABLE/name`` (subjects, classes): texts of at most ``width`` bytes, by number."""
        column = _Column.of_text(self._file.create_group(table), "name", width)
        for name in names:
            column.append(name.encode())
        column.flush()

    def finish(self, split_of_subject: npt.NDArray[np.uint8], attributes: Mapping[str, Any]) -> None:
        """Write the splits and the attributes, with the digest of it all."""
        self._flush()
        for group in self._groups.values():
            group.write_split(split_of_subject)
        own = {"format": FORMAT, "version": VERSION, "compression": self._compression}
        self._write_attributes({**attributes, **own, "digest": content_digest(self._file)})
        self._file.flush()

    def groups(self) -> list[h5py.Group]:
        """Return the groups as they are in the file, for what must look over all slices."""
        self._flush()
        return [self._images[name] for name in sorted(self._groups)]

    def source_path(self, source: int) -> str:
        """Return the path of a source that was added."""
        self._paths.flush()
        return str(self._paths.dataset[source].decode())

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _flush(self) -> None:
        tables = [self._paths, *self._sources.values()]
        for column in tables + [c for group in self._groups.values() for c in group.columns.values()]:
            column.flush()
        for group in self._groups.values():
            group.trim()

    def _write_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Text is stored with fixed length: text of variable length lies where HDF5 keeps no checksum."""
        for name, value in sorted(attributes.items()):
            if isinstance(value, dict | list):
                name, value = f"{name}_json", json.dumps(value, sort_keys=True)
            if isinstance(value, str):
                encoded = value.encode()
                kind = h5py.string_dtype("utf-8", max(1, len(encoded)))
                self._file.attrs.create(name, np.array(encoded, kind), dtype=kind)
            else:
                self._file.attrs[name] = value


class _Column:
    """A one-entry-a-row dataset that grows by blocks."""

    def __init__(self, parent: h5py.Group, name: str, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        filters = {"fletcher32": True} | ({"compression": "gzip"} if np.dtype(dtype).kind == "S" else {})
        self.dataset = parent.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(BLOCK_ROWS, *shape), **filters
        )
        self._waiting: list[Any] = []  # at most BLOCK_ROWS
        self._count = 0

    @classmethod
    def of_text(cls, parent: h5py.Group, name: str, width: int) -> _Column:
        """Make a column of UTF-8 texts of at most ``width`` bytes; gzip takes the padding away."""
        return cls(parent, name, h5py.string_dtype("utf-8", max(1, width)))

    def append(self, value: Any) -> int:
        self._waiting.append(value)
        self._count += 1
        if len(self._waiting) == BLOCK_ROWS:
            self.flush()
        return self._count - 1

    def flush(self) -> None:
        if self._waiting:
            self.dataset.resize(self._count, axis=0)
            self.dataset[self._count - len(self._waiting) :] = np.array(self._waiting, self.dataset.dtype)
            self._waiting.clear()


class _Group:
    """The slices of one shape and depth, with their columns."""

    def __init__(self, parent: h5py.Group, like: EncodedSlice, filters: Mapping[str, Any]) -> None:
        self._pixels = _create_pixels(parent, "slices", (like.height, like.width), like.dtype, filters)
        self.columns = {name: _Column(parent, name, *kind) for name, kind in COLUMNS.items()}
        self._count = 0

    def append(self, encoded: EncodedSlice, *, source: int, subject: int, label: int) -> None:
        row, self._count = self._count, self._count + 1
        if row % BLOCK_ROWS == 0:
            self._pixels.resize(row + BLOCK_ROWS, axis=0)
        self._pixels.id.write_direct_chunk((row, 0, 0), encoded.chunk, encoded.filter_mask)
        values = {
            "source": source,
            "subject": subject,
            "slice_index": encoded.slice_index,
            "position": encoded.position,
            "split": 0,
            "label": label,
            "window": encoded.window,
            "sha256": np.frombuffer(encoded.sha256, np.uint8),
        }
        for name, column in self.columns.items():
            column.append(values[name])

    def trim(self) -> None:
        """Drop the rows made ready for slices that did not come."""
        self._pixels.resize(self._count, axis=0)

    def write_split(self, split_of_subject: npt.NDArray[np.uint8]) -> None:
        subjects, splits = self.columns["subject"].dataset, self.columns["split"].dataset
        for start in range(0, self._count, BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, self._count))
            splits[block] = split_of_subject[subjects[block]]
