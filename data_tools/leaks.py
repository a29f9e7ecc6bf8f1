"""Finds the same pixels on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

_ROWS_A_PASS = 1 << 20
"""Rows whose hashes are held at once; a larger group is gone through several times instead of growing in memory."""

_BLOCK_ROWS = 1 << 16


class SharedPixels(NamedTuple):
    """Two rows of a group with the same pixels in different splits."""

    first: int
    second: int


def shared_pixels(group: h5py.Group, split_of_subject: npt.NDArray[np.uint8]) -> Iterator[SharedPixels]:
    """Yield rows of a packed ``group`` with equal hashes and different splits, slices of one single value apart.

    Those (empty slices, kept on purpose) are alike without being anyone's anatomy.
    """
    passes = len(group["sha256"]) // _ROWS_A_PASS + 1
    for number in range(passes):
        keys, rows = _keys(group["sha256"], number, passes)
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], rows[order]
        splits = split_of_subject[group["subject"][:]][rows] if len(rows) else rows
        for at in np.flatnonzero((keys[1:] == keys[:-1]) & (splits[1:] != splits[:-1])):
            first, second = int(rows[at]), int(rows[at + 1])
            same = np.array_equal(group["sha256"][first], group["sha256"][second])
            if same and np.ptp(group["slices"][first]) > 0:
                yield SharedPixels(first, second)


def _keys(hashes: h5py.Dataset, number: int, passes: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the first 8 bytes of the hashes that belong to a pass, and their rows."""
    keys, rows = [], []
    for start in range(0, len(hashes), _BLOCK_ROWS):
        block = np.ascontiguousarray(hashes[start : start + _BLOCK_ROWS, :8]).view("<u8").ravel()
        mine = np.flatnonzero(block % passes == number)
        keys.append(block[mine])
        rows.append(mine + start)
    return np.concatenate(keys), np.concatenate(rows)
