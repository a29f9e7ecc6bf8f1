"""Checks a packed file to the last bit: ``verify``."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_tools.console import CommandError, note, progress, say
from data_tools.slice_format import SPLITS, SliceGroup, content_digest, damage_named, open_packed
from data_tools.slicefile import SliceReader

_AHEAD = 16  # slices read while others are hashed


def verify(file: Path) -> None:
    """Read every slice and every column of ``file``; name what is damaged, and raise CommandError if anything is.

    HDF5's checksums are checked by reading; the SHA-256 of each slice's pixels is compared with the one written at
    packing, and the digest of the index with the one in the attributes.
    """
    damaged = 0
    with SliceReader(file) as reader, ThreadPoolExecutor(1) as hasher:
        total = sum(group.count for group in reader.groups)
        found = (fault for group in reader.groups for fault in _check_group(reader, group, hasher))
        for fault in progress(found, total=total, label="verifying"):
            if fault:
                damaged += 1
                note(f"{file}: {fault}")
        faults = [*_check_tables(reader), *_check_splits(reader)]
        digest = reader.digest
    for fault in faults:
        note(f"{file}: {fault}")
    if damaged or faults:
        raise CommandError(f"{file}: {damaged} of {total} slices damaged, {len(faults)} faults beside; pack it again")
    say(f"{file}: {total} slices as they were packed (digest {digest})")


def _check_group(reader: SliceReader, group: SliceGroup, hasher: ThreadPoolExecutor) -> Iterator[str | None]:
    """Yield for each slice what is wrong with it, or None. Pixels are hashed in another thread while the next are read."""
    hashes: Iterator[Any] = (row for (block,) in reader.blocks(group.name, "sha256") for row in block)
    waiting: deque[Future[str | None]] = deque()
    for row, expected in enumerate(hashes):
        try:
            pixels = reader.read(group.name, row)
        except CommandError as error:
            waiting.append(hasher.submit(str, f"{group.name} row {row}: {error.__cause__ or error}".splitlines()[0]))
        else:
            waiting.append(hasher.submit(_compare, pixels, expected, f"{group.name} row {row}"))
        if len(waiting) == _AHEAD:
            yield waiting.popleft().result()
    yield from (future.result() for future in waiting)


def _compare(pixels: npt.NDArray[Any], expected: npt.NDArray[np.uint8], where: str) -> str | None:
    same = hashlib.sha256(pixels.data).digest() == expected.tobytes()
    return None if same else f"{where}: its pixels are not those that were packed"
