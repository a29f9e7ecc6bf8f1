"""Checks a packed file to the last bit: ``verify``."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_tools.console import CommandError, counted, first_line, note, progress, say
from data_tools.slice_format import (
    BLOCK_ROWS,
    SOURCE_COLUMNS,
    SPLITS,
    SliceGroup,
    content_digest,
    damage_named,
    open_packed,
)
from data_tools.slicefile import SliceReader

_BLOCK_BYTES = 1 << 22  # read at once
_AHEAD = 3  # blocks read while others are hashed


def verify(file: Path) -> None:
    """Read every slice and every column of ``file``; name what is damaged, and raise CommandError if anything is.

    HDF5's checksums are checked by reading; the SHA-256 of each slice's pixels is compared with the one written at
    packing, and the digest of the index with the one in the attributes.
    """
    damaged = 0
    with SliceReader(file) as reader, ThreadPoolExecutor(1) as hasher:
        total = sum(group.count for group in reader.groups)
        _check_tables(reader)
        found = (fault for group in reader.groups for fault in _check_group(reader, group, hasher))
        for fault in progress(found, total=total, label="verifying"):
            if fault:
                damaged += 1
                note(f"{file}: {fault}")
        faults = list(_check_index(reader))
        digest = reader.digest
    for fault in faults:
        note(f"{file}: {fault}")
    if damaged or faults:
        beside = counted(len(faults), "fault")
        raise CommandError(f"{file}: {damaged} of {counted(total, 'slice')} damaged, {beside} beside; pack it again")
    say(f"{file}: {counted(total, 'slice')} as packed (digest {digest})")


def _check_group(reader: SliceReader, group: SliceGroup, hasher: ThreadPoolExecutor) -> Iterator[str | None]:
    """Yield for each slice what is wrong with it, or None; hash in another thread while the next are read."""
    hashes: Iterator[Any] = (row for (block,) in reader.blocks(group.name, "sha256") for row in block)
    size = max(1, _BLOCK_BYTES // (group.height * group.width * np.dtype(group.dtype).itemsize))
    waiting: deque[Future[list[str | None]]] = deque()
    for start in range(0, group.count, size):
        rows = range(start, min(start + size, group.count))
        expected = [next(hashes) for _ in rows]
        waiting.append(hasher.submit(_compare, _read(reader, group, rows), expected, group.name, start))
        if len(waiting) == _AHEAD:
            yield from waiting.popleft().result()
    for future in waiting:
        yield from future.result()


def _read(reader: SliceReader, group: SliceGroup, rows: range) -> Sequence[npt.NDArray[Any] | str]:
    """The pixels of some rows, or what is wrong with one: a block at once, and one by one where it is damaged."""
    try:
        return list(reader.read_block(group.name, rows.start, rows.stop))
    except CommandError:
        return [_read_row(reader, group, row) for row in rows]


def _read_row(reader: SliceReader, group: SliceGroup, row: int) -> npt.NDArray[Any] | str:
    try:
        return reader.read(group.name, row)
    except CommandError as error:
        return first_line(error.__cause__ or error)


def _compare(
    pixels: Sequence[npt.NDArray[Any] | str], expected: Sequence[npt.NDArray[np.uint8]], group: str, start: int
) -> list[str | None]:
    """For each of some rows from ``start`` on: what is wrong with it, or None."""
    found: list[str | None] = []
    for row, (image, wanted) in enumerate(zip(pixels, expected, strict=True), start):
        if isinstance(image, str):
            found.append(f"{group} row {row}: {image}")
        else:
            same = hashlib.sha256(image.data).digest() == wanted.tobytes()
            found.append(None if same else f"{group} row {row}: its pixels are not those that were packed")
    return found


def _check_tables(reader: SliceReader) -> None:
    """Read the tables of sources, subjects and classes whole, against their checksums; CommandError on damage."""
    file = open_packed(reader.path)
    lengths: dict[str, set[int]] = {}
    with damage_named(reader.path, "a table beside the slices"), file:
        for table, columns in (("sources", ("path", *SOURCE_COLUMNS)), ("subjects", ("name",)), ("classes", ("name",))):
            for column in columns:
                dataset = file[f"{table}/{column}"]
                lengths.setdefault(table, set()).add(len(dataset))
                for start in range(0, len(dataset), BLOCK_ROWS):
                    dataset[start : start + BLOCK_ROWS]
        if len(lengths["sources"]) > 1:
            raise ValueError("the columns of /sources differ in length")


def _check_index(reader: SliceReader) -> Iterator[str]:
    """Yield what is wrong with the index: another digest, numbers out of range, a subject in two splits."""
    with open_packed(reader.path) as file, damage_named(reader.path, "the index"):
        if content_digest(file) != reader.digest:
            yield "the index is not the one that was packed: another digest"
    split_of_subject = np.full(len(reader.subjects), len(SPLITS), np.uint8)
    for group in reader.groups:
        for subject, split, source in reader.blocks(group.name, "subject", "split", "source"):
            if subject.max() >= len(split_of_subject) or split.max() >= len(SPLITS):
                yield f"{group.name}: a subject or a split that does not exist"
                return
            if source.max() >= reader.source_count:
                yield f"{group.name}: a source that does not exist"
            before = split_of_subject[subject]
            split_of_subject[subject] = split
            if ((before != len(SPLITS)) & (before != split)).any() or (split_of_subject[subject] != split).any():
                yield f"{group.name}: a subject in two splits"
                return
