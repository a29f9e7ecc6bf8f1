"""The pixels of one group of a packed file, checked whenever they are read: ``StoredPixels``."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from data_tools.slice_format import CHECKSUM_BYTES, SliceGroup


class StoredPixels:
    """Reads the slices of a group, from any thread of the process that opened the file.

    A slice is read through HDF5 at first, whose Fletcher-32 and our SHA-256 it must pass, and is held against a
    checksum of that when it is read again: then straight from the file where it lies there as it is.
    Whatever is wrong is raised as h5py does (``slice_format.DAMAGE``).
    """

    def __init__(self, file: h5py.File, group: SliceGroup, *, plain: bool) -> None:
        """``plain``: whether the file's pixels are not compressed."""
        self.dataset: h5py.Dataset = file[f"images/{group.name}/slices"]
        self._hashes: npt.NDArray[np.uint8] = file[f"images/{group.name}/sha256"][:]
        self.count, self._shape, self._dtype = group.count, (group.height, group.width), self.dataset.dtype
        self._was_read = np.zeros(group.count, np.bool_)
        self._checksums = np.zeros(group.count, np.uint64)
        # HDF5's own descriptor, so that it is the same file whatever has its name by now.
        self._descriptor: int | None = file.id.get_vfd_handle() if plain and file.driver == "sec2" else None

    def read(self, row: int) -> npt.NDArray[Any]:
        """Return the pixels (H, W) of a row; they are the caller's own."""
        if not self._was_read[row]:
            pixels: npt.NDArray[Any] = self.dataset[row]
            # HDF5's checksum takes 0000 for FFFF: it counts modulo 65535.
            if hashlib.sha256(pixels.data).digest() != self._hashes[row].tobytes():
                raise ValueError("its pixels are not those that were packed")
            self._checksums[row] = xxh3_64_intdigest(pixels.data)
            self._was_read[row] = True
            return pixels
        pixels = self.dataset[row] if self._descriptor is None else self._read_direct(self._descriptor, row)
        if xxh3_64_intdigest(pixels.data) != int(self._checksums[row]):
            raise ValueError("its pixels changed since this process read them first")
        return pixels

    def _read_direct(self, descriptor: int, row: int) -> npt.NDArray[Any]:
        """Read an uncompressed row past HDF5, which would take longer than all else that is done with it."""
        offset = int(self._offsets[row])
        if offset < 0:
            raise ValueError("not stored as its header says")
        pixels = np.empty(self._shape, self._dtype)
        if os.preadv(descriptor, [pixels.data], offset) != pixels.nbytes:
            return np.asarray(self.dataset[row])  # HDF5 asks for the rest, or says why there is none
        return pixels

    @cached_property
    def _offsets(self) -> npt.NDArray[np.int64]:
        """Where each row begins in the file; -1 where one is not stored as its header says.

        Asked for a single one, HDF5 would go through all of them each time.
        """
        offsets = np.full(self.count, -1, np.int64)
        stored = self._shape[0] * self._shape[1] * self._dtype.itemsize + CHECKSUM_BYTES
        end = self.dataset.file.id.get_filesize()

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            if chunk.filter_mask == 0 and chunk.size == stored and chunk.byte_offset + stored <= end:
                offsets[chunk.chunk_offset[0]] = chunk.byte_offset

        self.dataset.id.chunk_iter(note)
        return offsets
