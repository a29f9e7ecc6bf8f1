"""The codes of packed slices in one HDF5 file: its layout, and ``CodesReader``.

    /codes/hxw_of_GROUP/   one group for each group of the packed file; its grid (h, w), its true size in attributes
        codes (N,h,w) uint16   foreground (N,h,w) uint8, 1 where a cell's pixels hold foreground
        slice_row view flipped   and of the packed file: subject slice_index position split label      (N) each
    /patches (K,d,d)   the mean image under each code: what a code looks like, without the decoder
    /subjects/name  /classes/name   as in the packed file
    attributes: format, version, digest, K, downsample, views, vqvae_run_id, vqvae_weights_sha256, data_digest

View 0 of a slice is the slice as it is; further views, of training slices only, are shifted, mirrored or of another
gamma. Each map is a chunk of its own with a checksum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data_tools.console import CommandError, UsageError
from data_tools.own_datasets import MAX_CHUNK_BYTES, own_attributes, own_dataset, own_group
from data_tools.own_file import OwnFile
from data_tools.slice_format import DAMAGE
from data_tools.slice_index import check_positions, check_range
from data_tools.slicefile import SPLITS

FORMAT = "brain-codes"
VERSION = 1

MAX_CODES = 1 << 16
MAX_PATCHES_BYTES = 1 << 30

COLUMNS = {
    "slice_row": "<u4",
    "view": "<u2",
    "flipped": "u1",
    "subject": "<u4",
    "slice_index": "<i4",
    "position": "<f4",
    "split": "u1",
    "label": "<i4",
}
"""One entry a code map, with its type."""


@dataclass(frozen=True)
class CodesGroup:
    """The code maps of one grid and true size."""

    name: str
    """As in the file, e.g. ``72x72_of_288x288_uint8``."""

    slices: str
    """The group of the packed file that the slices are in."""

    grid: tuple[int, int]
    """(h, w) cells."""

    size: tuple[int, int]
    """(H, W) pixels of the slices."""

    count: int


@dataclass(frozen=True)
class CodesIndex:
    """What is known of each code map of a group: arrays with one entry a row."""

    slice_row: npt.NDArray[np.uint32]
    view: npt.NDArray[np.uint16]
    flipped: npt.NDArray[np.uint8]
    subject: npt.NDArray[np.uint32]
    slice_index: npt.NDArray[np.int32]
    position: npt.NDArray[np.float32]
    split: npt.NDArray[np.uint8]
    label: npt.NDArray[np.int32]


class CodesReader(OwnFile):
    """Reads a codes file, as ``OwnFile`` says; its digest is of the codes, their index and the VQ-VAE's weights."""

    def _open_anew(self) -> h5py.File:
        file = _open_codes(self.path)
        self._indexes: dict[str, CodesIndex] = {}
        return file

    @contextlib.contextmanager
    def _damage_named(self, part: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise CommandError(f"{self.path}: {part} is damaged ({error}); {AGAIN}") from error

    @property
    def codebook_size(self) -> int:
        """K; every code is below it."""
        with self._damage_named("its attributes"):
            size = int(self.attributes["K"])
            if not 1 <= size <= MAX_CODES:
                raise ValueError(f"a codebook of {size} codes")
        return size

    @cached_property
    def groups(self) -> tuple[CodesGroup, ...]:
        """The groups, sorted by name."""
        with self._damage_named("the list of groups"):
            codes, size = own_group(self._open(), "codes"), self.path.stat().st_size
            return tuple(_checked_group(name, own_group(codes, name), size) for name in sorted(codes))

    @cached_property
    def patches(self) -> npt.NDArray[np.float32]:
        """(K, d, d): the mean image under each code."""
        with self._damage_named("/patches"):
            patches = own_dataset(self._open(), "patches", chunk_bytes=MAX_CHUNK_BYTES)
            side = int(self.attributes["downsample"])
            if patches.shape != (self.codebook_size, side, side) or patches.nbytes > MAX_PATCHES_BYTES:
                raise ValueError(f"pictures of codes of shape {patches.shape}")
            return np.asarray(patches[:], np.float32)

    def index(self, group: str) -> CodesIndex:
        """The index of a group, read once a process."""
        file = self._open()
        if group not in self._indexes:
            if group not in {one.name for one in self.groups}:  # which are checked
                raise CommandError(f"{self.path}: holds no group {group}")
            with self._damage_named(f"the index of {group}"):
                self._indexes[group] = self._checked_index(file[f"codes/{group}"])
        return self._indexes[group]

    def _checked_index(self, group: h5py.Group) -> CodesIndex:
        index = CodesIndex(**{name: group[name][:] for name in COLUMNS})
        limits = {"label": len(self.classes), "split": len(SPLITS), "subject": len(self.subjects), "flipped": 2}
        for name, limit in limits.items():
            check_range(name, getattr(index, name), limit)
        check_positions(index.position)
        return index

    def rows(self, group: str, split: str, *, views: bool) -> npt.NDArray[np.int64]:
        """The row numbers of a split in file order, ``all`` for every split; with all views or only view 0."""
        index = self.index(group)
        if split != "all" and split not in SPLITS:
            raise UsageError(f"there is no split {split!r}; allowed: {', '.join(SPLITS)}, all")
        chosen = np.ones(len(index.split), np.bool_) if split == "all" else index.split == SPLITS.index(split)
        return np.flatnonzero(chosen if views else chosen & (index.view == 0))

    def codes(self, group: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The code maps (n, h, w) of some rows, in the order asked."""
        codes = self._maps(group, "codes", rows).astype(np.int64)
        if codes.size and codes.max() >= self.codebook_size:
            raise CommandError(f"{self.path}: {group} holds code {codes.max()} of {self.codebook_size}; {AGAIN}")
        return codes

    def foreground(self, group: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which cells (n, h, w) of some rows hold foreground."""
        return self._maps(group, "foreground", rows).astype(np.bool_)

    def _maps(self, group: str, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        with self._damage_named(f"{group} {name}"):
            dataset = self._open()[f"codes/{group}/{name}"]
            return np.stack([dataset[row] for row in rows]) if len(rows) else np.zeros((0, *dataset.shape[1:]), "u2")


MADE_BY = "codes are made by: python -m vqvae_dist extract-codes"
AGAIN = "make it again with: python -m vqvae_dist extract-codes"


def _open_codes(path: Path) -> h5py.File:
    if not path.is_file():
        what = "is a folder, not a file of codes" if path.is_dir() else "no such file"
        raise CommandError(f"{path}: {what}; {MADE_BY}")
    try:
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
        about = own_attributes(file)
    except DAMAGE as error:
        raise CommandError(f"{path}: not an HDF5 file, or damaged ({error}); {AGAIN}") from error
    if about.get("format") != FORMAT:
        raise CommandError(f"{path}: an HDF5 file, but not codes; {MADE_BY}")
    if about.get("version") != VERSION:
        raise CommandError(
            f"{path}: version {about.get('version')} of the format; this program reads {VERSION}; {AGAIN}"
        )
    return file


def _checked_group(name: str, group: h5py.Group, file_bytes: int) -> CodesGroup:
    """Describe a group; ValueError unless its arrays lie in this file and are of one length and of the right types."""
    codes = own_dataset(group, "codes", chunk_bytes=MAX_CHUNK_BYTES)
    count, h, w = codes.shape
    wanted = {
        "codes": ("<u2", (h, w)),
        "foreground": ("u1", (h, w)),
        **{key: (kind, ()) for key, kind in COLUMNS.items()},
    }
    for key, (kind, shape) in wanted.items():
        dataset = own_dataset(group, key, chunk_bytes=MAX_CHUNK_BYTES)
        if dataset.shape != (count, *shape) or dataset.dtype != kind:
            raise ValueError(f"{name}/{key} has shape {dataset.shape} of {dataset.dtype}")
        if not dataset.fletcher32:
            raise ValueError(f"{name}/{key} has no checksums")
    if count * sum(np.dtype(kind).itemsize for kind in COLUMNS.values()) > file_bytes:
        raise ValueError(f"{name} claims {count} maps, more than fit into the file")
    about = own_attributes(group)
    size = int(about["height"]), int(about["width"])
    if min(h, w, *size) < 1:
        raise ValueError(f"{name} is a grid of {h}x{w} of slices of {size[0]}x{size[1]}")
    return CodesGroup(name, str(about["slices"]), (h, w), size, count)
