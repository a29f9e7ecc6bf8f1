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

    may_be_bytes: bool = False
    """Whether ``leaks.may_be_bytes``; it is not written to the file."""


class SliceEncoder:
    """Turns pixels into the bytes of their chunk."""

    def __init__(self, compression: Compression) -> None:
        self._filters = pixel_filters(compression)
        self._file = h5py.File(
            f"memory-{id(self)}", "w", driver="core", backing_store=False, libver=_LIBVER, rdcc_nbytes=0
        )
        self._datasets: dict[tuple[tuple[int, ...], np.dtype[Any]], h5py.h5d.DatasetID] = {}

    def encode(self, raw: npt.NDArray[Any]) -> tuple[int, bytes]:
        """Return the filter mask and the bytes of the chunk that holds ``raw`` (H, W), which is contiguous."""
        kind = (raw.shape, raw.dtype)
        if kind not in self._datasets:
            name = str(len(self._datasets))
            pixels = _create_pixels(self._file, name, raw.shape, raw.dtype.name, self._filters)
            pixels.resize(1, axis=0)
            self._datasets[kind] = pixels.id
        # The plain interface of h5py costs more than checksum and copy together.
        self._datasets[kind].write(h5py.h5s.ALL, h5py.h5s.ALL, raw)
        return self._datasets[kind].read_direct_chunk((0, 0, 0))  # type: ignore[no-any-return]  # h5py has no types


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
        self._sources = _Table(self._file.create_group("sources"), {"path": (_text(path_bytes), ()), **SOURCE_COLUMNS})
        self._images = self._file.create_group("images")

    def add_source(self, path: str, **columns: Any) -> int:
        """Append a file and what is known of it (``SOURCE_COLUMNS``); return its number."""
        return self._sources.append({"path": path.encode(), **columns})

    def add_slice(self, encoded: EncodedSlice, *, source: int, subject: int, label: int) -> tuple[str, int]:
        """Append a slice to the group of its shape and depth; return the group's name and the row.

        Its split is decided in ``finish``.
        """
        name = group_name(encoded.height, encoded.width, encoded.dtype)
        if name not in self._groups:
            self._groups[name] = _Group(self._images.create_group(name), encoded, self._filters)
        return name, self._groups[name].append(encoded, source=source, subject=subject, label=label)

    def write_names(self, table: str, names: Iterable[str], width: int) -> None:
        """Write ``/TABLE/name`` (subjects, classes): texts of at most ``width`` bytes, by number."""
        column = _Table(self._file.create_group(table), {"name": (_text(width), ())})
        for name in names:
            column.append({"name": name.encode()})
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
        self._sources.flush()
        return str(self._sources.datasets["path"][source].decode())

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _flush(self) -> None:
        self._sources.flush()
        for group in self._groups.values():
            group.flush()

    def _write_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Text is stored with fixed length: text of variable length lies where HDF5 keeps no checksum."""
        for name, value in sorted(attributes.items()):
            if isinstance(value, dict | list):
                name, value = f"{name}_json", json.dumps(value, sort_keys=True)
            if isinstance(value, str):
                encoded = value.encode()
                self._file.attrs.create(name, np.array(encoded, _text(len(encoded))), dtype=_text(len(encoded)))
            else:
                self._file.attrs[name] = value


def _text(width: int) -> np.dtype[Any]:
    """Return the type of UTF-8 texts of at most ``width`` bytes."""
    return h5py.string_dtype("utf-8", max(1, width))  # type: ignore[no-any-return]  # h5py has no types


class _Table:
    """Datasets with one entry a row that grow together, a block at a time."""

    def __init__(self, parent: h5py.Group, columns: Mapping[str, tuple[Any, tuple[int, ...]]]) -> None:
        self.datasets = {name: _create_column(parent, name, *kind) for name, kind in columns.items()}
        self._waiting: list[Mapping[str, Any]] = []  # at most BLOCK_ROWS
        self.count = 0

    def append(self, values: Mapping[str, Any]) -> int:
        """Append a row; return its number."""
        self._waiting.append(values)
        self.count += 1
        if len(self._waiting) == BLOCK_ROWS:
            self.flush()
        return self.count - 1

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._waiting:
            return
        for name, dataset in self.datasets.items():
            dataset.resize(self.count, axis=0)
            block = np.array([values[name] for values in self._waiting], dataset.dtype)
            dataset[self.count - len(block) :] = block
        self._waiting.clear()


def _create_column(parent: h5py.Group, name: str, dtype: Any, shape: tuple[int, ...]) -> h5py.Dataset:
    # Texts have a fixed length, because HDF5 keeps no checksum of the others; gzip takes the padding away.
    packing = {"compression": "gzip"} if np.dtype(dtype).kind == "S" else {}
    return parent.create_dataset(
        name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(BLOCK_ROWS, *shape), fletcher32=True, **packing
    )


class _Group:
    """The slices of one shape and depth, with their columns."""

    def __init__(self, parent: h5py.Group, like: EncodedSlice, filters: Mapping[str, Any]) -> None:
        self._pixels = _create_pixels(parent, "slices", (like.height, like.width), like.dtype, filters)
        self._chunks = self._pixels.id
        self._index = _Table(parent, COLUMNS)

    def append(self, encoded: EncodedSlice, *, source: int, subject: int, label: int) -> int:
        """Append a slice; return its row."""
        row = self._index.append(
            {
                "source": source,
                "subject": subject,
                "slice_index": encoded.slice_index,
                "position": encoded.position,
                "split": 0,
                "label": label,
                "window": encoded.window,
                "sha256": np.frombuffer(encoded.sha256, np.uint8),
            }
        )
        if row % BLOCK_ROWS == 0:
            self._pixels.resize(row + BLOCK_ROWS, axis=0)
        self._chunks.write_direct_chunk((row, 0, 0), encoded.chunk, encoded.filter_mask)
        return row

    def flush(self) -> None:
        """Write what is waiting, and drop the rows made ready for slices that did not come."""
        self._index.flush()
        self._pixels.resize(self._index.count, axis=0)

    def write_split(self, split_of_subject: npt.NDArray[np.uint8]) -> None:
        subjects, splits = self._index.datasets["subject"], self._index.datasets["split"]
        for start in range(0, self._index.count, BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, self._index.count))
            splits[block] = split_of_subject[subjects[block]]
