"""Finds the same pixels on both sides of a split."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from data_tools.console import CommandError
from data_tools.slice_format import SPLITS

_ROWS_A_PASS = 1 << 20
"""Rows whose hashes are held at once; more rows are gone through several times instead of growing in memory."""

_BLOCK_ROWS = 1 << 16

ByteRows = Callable[[str], Iterable[int]]
"""Gives, by a group's name, the rows for which ``may_be_bytes`` is true."""


class _Place(NamedTuple):
    """A row of a group."""

    group: h5py.Group
    row: int


class _Keys(NamedTuple):
    """The first 8 bytes of hashes, and whose they are: rows are counted through several groups."""

    keys: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int64]


def may_be_bytes(pixels: npt.NDArray[Any]) -> bool:
    """Whether ``pixels`` are of another type than uint8 but seem to fit it: a look that costs little."""
    if pixels.dtype == np.uint8 or not (pixels.max() <= 255 and pixels.min() >= 0):  # NaN is neither
        return False
    return pixels.dtype.kind != "f" or not (pixels[::16] % 1).any()


def refuse_shared_pixels(
    groups: Iterable[h5py.Group],
    split_of_subject: npt.NDArray[np.uint8],
    *,
    byte_rows: ByteRows,
    path_of: Callable[[int], str],
) -> None:
    """Raise CommandError where the same pixels are in different splits, naming both files by ``path_of`` their source.

    ``groups`` are sorted by name, so that those of one shape follow each other.
    """
    for _, alike in itertools.groupby(groups, key=lambda group: _name(group).partition("_")[0]):
        for pair in _shared_pixels(list(alike), split_of_subject, byte_rows):
            a, b = (
                f"{path_of(int(group['source'][row]))} ({SPLITS[split_of_subject[group['subject'][row]]]})"
                for group, row in pair
            )
            raise CommandError(
                f"the same pixels are on both sides of a split: {a} and {b}\n"
                "remove one, or give both the same subject with --subjects"
            )


def _shared_pixels(
    groups: Sequence[h5py.Group], split_of_subject: npt.NDArray[np.uint8], byte_rows: ByteRows
) -> Iterator[tuple[_Place, _Place]]:
    """Yield rows of ``groups`` of one shape with equal pixels and different splits, slices of one value apart.

    Those (empty slices, kept on purpose) are alike without being anyone's anatomy. Depths are compared too: where both
    int16 and uint16 hold a slice it has the same bytes, and ``byte_rows`` tells what uint8 may hold (read again).
    """
    starts = [0, *itertools.accumulate(len(group["sha256"]) for group in groups)]
    splits = np.concatenate([split_of_subject[group["subject"][:]] for group in groups])
    passes = len(splits) // _ROWS_A_PASS + 1
    for number in range(passes):
        parts = []
        for group, start in zip(groups, starts, strict=False):
            parts.append(_own_keys(group["sha256"], start, number, passes))
            if len(groups) > 1:
                parts.append(_byte_keys(group, byte_rows(_name(group)), start, number, passes))
        keys, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], rows[order]
        for at in np.flatnonzero((keys[1:] == keys[:-1]) & (splits[rows[1:]] != splits[rows[:-1]])):
            first, second = (_place(groups, starts, int(row)) for row in rows[at : at + 2])
            if _are_equal(first, second):
                yield first, second


def _own_keys(hashes: h5py.Dataset, first_row: int, number: int, passes: int) -> _Keys:
    """Return the hashes of a group that belong to a pass."""
    keys, rows = [], []
    for start in range(0, len(hashes), _BLOCK_ROWS):
        block = np.ascontiguousarray(hashes[start : start + _BLOCK_ROWS, :8]).view("<u8").ravel()
        mine = np.flatnonzero(block % passes == number)
        keys.append(block[mine])
        rows.append(mine + start + first_row)
    return _Keys(np.concatenate(keys), np.concatenate(rows))


def _byte_keys(group: h5py.Group, rows: Iterable[int], first_row: int, number: int, passes: int) -> _Keys:
    """Return the hashes that slices of a group would have as uint8, where they fit it, that belong to a pass."""
    slices = ((row, group["slices"][row]) for row in rows)
    narrow = ((row, pixels, pixels.astype(np.uint8)) for row, pixels in slices)
    hashes = ((hashlib.sha256(small.data).digest(), row) for row, pixels, small in narrow if (small == pixels).all())
    keys = ((int.from_bytes(sha256[:8], "little"), row + first_row) for sha256, row in hashes)
    mine = (pair for pair in keys if pair[0] % passes == number)
    both = np.fromiter(mine, np.dtype([("key", np.uint64), ("row", np.int64)]))
    return _Keys(both["key"], both["row"])


def _place(groups: Sequence[h5py.Group], starts: Sequence[int], row: int) -> _Place:
    number = int(np.searchsorted(starts, row, side="right")) - 1
    return _Place(groups[number], row - starts[number])


def _are_equal(one: _Place, other: _Place) -> bool:
    """Whether two slices hold the same values, and more than one."""
    if one.group == other.group and not np.array_equal(*(place.group["sha256"][place.row] for place in (one, other))):
        return False
    pixels, others = (place.group["slices"][place.row] for place in (one, other))
    return not _is_one_value(pixels) and (one.group == other.group or np.array_equal(pixels, others))


def _is_one_value(pixels: npt.NDArray[Any]) -> bool:
    return bool((pixels == pixels[0, 0]).all() or np.isnan(pixels).all())


def _name(group: h5py.Group) -> str:
    return str(group.name).rpartition("/")[2]
