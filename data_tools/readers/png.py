"""What a PNG says of itself and Pillow does not check: the checksums of its chunks, and that no row is missing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from data_tools.readers.slice import UnreadableError

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""How many numbers a pixel of each colour type has."""

_WHOLE = ((0, 0, 1, 1),)
_INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes that pixels come in: first column and row, steps to the next column and row."""

_PIECE = 1 << 20


def check_chunks(data: bytes) -> None:
    """Check every chunk's CRC and that none is missing."""
    for _ in _chunks(data):
        pass


def check_rows(data: bytes) -> None:
    """Check that the pixels of every row are there, in a file whose header has been found good."""
    missing = _unpacked_size(*struct.unpack(">IIBBBBB", data[16:29]))
    inflate = zlib.decompressobj()
    for kind, content in _chunks(data):
        rest: bytes | memoryview = content if kind == b"IDAT" else b""
        while rest and missing > 0:
            missing -= len(inflate.decompress(rest, _PIECE))
            rest = inflate.unconsumed_tail
    if missing > 0 and missing > len(inflate.flush()):
        raise UnreadableError("a damaged PNG: rows are missing")


def _unpacked_size(width: int, height: int, depth: int, colour: int, *methods: int) -> int:
    """Return how many bytes the rows have, each with the number of its filter."""
    size = 0
    for left, top, right, down in _INTERLACED if methods[-1] else _WHOLE:
        columns, rows = -(-max(0, width - left) // right), -(-max(0, height - top) // down)
        size += rows * (1 + -(-columns * depth * _CHANNELS[colour] // 8)) if columns else 0
    return size


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and content of each chunk up to the last; UnreadableError where one is damaged or missing."""
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        if end > len(data):
            break
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableError("a damaged PNG: a checksum does not match")
        kind = bytes(view[start + 4 : start + 8])
        yield kind, view[start + 8 : end - 4]
        if kind == b"IEND":
            return
        start = end
    raise UnreadableError("a truncated PNG")
