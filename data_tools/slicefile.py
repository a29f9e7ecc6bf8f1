"""Reading a packed-slices file: ``SliceReader``.

Imports numpy, h5py and xxhash only, so that whatever trains can read slices without what packs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from data_tools.console import CommandError, UsageError
from data_tools.own_file import OwnFile
from data_tools.scaling import scale_to_unit
from data_tools.slice_format import (
    BLOCK_ROWS,
    DAMAGE,
    FORMAT,
    SPLITS,
    VERSION,
    SliceGroup,
    content_digest,
    damage_named,
    damaged,
    open_packed,
    read_attributes,
    read_groups,
)
from data_tools.slice_index import SliceIndex, read_index
from data_tools.stored_pixels import StoredPixels

__all__ = [
    "FORMAT",
    "SPLITS",
    "VERSION",
    "SliceGroup",
    "SliceIndex",
    "SliceReader",
    "Source",
    "scale_to_unit",
]


class Source(NamedTuple):
    """A file that was packed."""

    path: str
    """Relative to the folder that was packed."""

    sha256: str
    slope: float
    intercept: float
    """Real value = slope * stored value + intercept."""


class SliceReader(OwnFile):
    """Reads a packed file, as ``OwnFile`` says.

    Every slice is checked against its SHA-256 when a process reads it first, and against a checksum of what that gave
    when it is read again.
    """

    def _open_anew(self) -> h5py.File:
        file = open_packed(self.path)
        self._indexes: dict[str, SliceIndex] = {}
        self._pixels: dict[str, StoredPixels] = {}
        return file

    def _damage_named(self, part: str) -> AbstractContextManager[None]:
        return damage_named(self.path, part)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What the file says of itself: format, version, digest, compression, settings, subject_rules."""
        with self._damage_named("its attributes"):
            return read_attributes(self._open())

    @cached_property
    def groups(self) -> tuple[SliceGroup, ...]:
        """The groups, sorted by name."""
        return read_groups(self.path, self._open())

    def source(self, number: int) -> Source:
        """Return what the file says of a source."""
        file = self._open()
        with self._damage_named("/sources"):
            sha256, slope, intercept = (file[f"sources/{name}"][number] for name in ("sha256", "slope", "intercept"))
            path = file["sources/path"][number].decode()
        return Source(path, sha256.tobytes().hex(), float(slope), float(intercept))

    @cached_property
    def source_count(self) -> int:
        """How many files the slices come from."""
        with self._damage_named("/sources/path"):
            return len(self._open()["sources/path"])

    def group(self, name: str) -> SliceGroup:
        """Return the group called ``name``."""
        for group in self.groups:
            if group.name == name:
                return group
        names = ", ".join(group.name for group in self.groups)
        raise CommandError(f"{self.path}: holds no group {name}; it has {names}")

    def index(self, group: str) -> SliceIndex:
        """Return the index of a group, read once a process (about 40 bytes a slice)."""
        file = self._open()
        if group not in self._indexes:
            found = self.group(group)
            with self._damage_named(f"the index of {group}"):
                self._indexes[group] = read_index(file, found)
        return self._indexes[group]

    def check_digest(self) -> None:
        """CommandError unless the index is the one that the digest was made of; reads every column, but no pixel."""
        assert self.groups is not None  # every column is checked to lie in this file
        with self._damage_named("the index"):
            if content_digest(self._open()) != self.digest:
                raise ValueError("not the one that was packed: another digest")

    def rows(self, group: str, split: str) -> npt.NDArray[np.int64]:
        """Return the row numbers of a split in file order; ``all`` gives every row."""
        if split == "all":
            return np.arange(self.group(group).count)
        if split not in SPLITS:
            raise UsageError(f"there is no split {split!r}; allowed: {', '.join(SPLITS)}, all")
        return np.flatnonzero(self.index(group).split == SPLITS.index(split))

    def blocks(self, group: str, *columns: str) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """Yield ``columns`` of a group block by block, for what looks at all slices without holding its index."""
        file, count = self._open(), self.group(group).count
        for start in range(0, count, BLOCK_ROWS):
            with self._damage_named(f"the index of {group}"):
                arrays = [file[f"images/{group}/{column}"][start : start + BLOCK_ROWS] for column in columns]
            yield tuple(arrays)

    def read(self, group: str, row: int) -> npt.NDArray[Any]:
        """Return the stored pixels (H, W) of a row as they are in the file; from any thread."""
        pixels = self._stored(group)
        if not 0 <= row < pixels.count:
            raise CommandError(f"{self.path}: {group} has no row {row}; it has {pixels.count}")
        try:  # as damage_named, without its cost for each slice
            return pixels.read(row)
        except DAMAGE as error:
            raise damaged(self.path, f"{group} row {row}", error) from error

    def read_block(self, group: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the stored pixels (n, H, W) of successive rows, checked by HDF5 alone: for what hashes them itself."""
        pixels = self._stored(group)
        with self._damage_named(f"{group} rows {start} to {stop - 1}"):
            return np.asarray(pixels.dataset[start:stop])

    def scaled(self, group: str, row: int) -> npt.NDArray[np.float32]:
        """Return a slice (H, W) as float32 in [0, 1]: its window applied and clipped."""
        return scale_to_unit(self.read(group, row), self.index(group).window[row])

    def _stored(self, group: str) -> StoredPixels:
        file = self._open()
        if group not in self._pixels:
            found, plain = self.group(group), self.attributes["compression"] == "none"
            with self._damage_named(f"the index of {group}"):
                self._pixels[group] = StoredPixels(file, found, plain=plain)
        return self._pixels[group]
