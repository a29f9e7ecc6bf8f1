"""What a DICOM file holds before pydicom is let loose on it: deflated or not, and how many items of sequences."""

from __future__ import annotations

import io
import zlib

from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_tools.readers.slice import MAX_VOLUME_BYTES, UnreadableError

_PART_BYTES = 1 << 14
"""Deflated bytes that are unpacked at a time, to a thousand times as much at most."""

_ITEM = b"\xfe\xff\x00\xe0"


def _deflated_start(data: bytes) -> int | None:
    """Return where the deflated part of a file begins; None where it has none."""
    if DeflatedExplicitVRLittleEndian.encode() not in data:
        return None
    stream = io.BytesIO(data)
    read_preamble(stream, force=True)
    # pydicom would inflate whatever there is; its own reading of the group tells where that begins.
    syntax = _read_file_meta_info(stream).get("TransferSyntaxUID")
    return stream.tell() if syntax == DeflatedExplicitVRLittleEndian else None


def check_items(plain: bytes, *, most: int) -> None:
    """Refuse more items of sequences than ``most``: 8 bytes of the file make an object of a kilobyte."""
    if plain.count(_ITEM) > most:
        raise UnreadableError(f"DICOM with more than {most} items of sequences")


def _inflated(data: bytes, start: int) -> bytes:
    """Return the plain dataset of a deflated file; it is kept only once its size is known."""
    size, unpacker = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    for place in range(start, len(data), _PART_BYTES):
        size += len(unpacker.decompress(data[place : place + _PART_BYTES]))
        if size > MAX_VOLUME_BYTES:
            raise UnreadableError(f"a deflated DICOM file that unpacks to more than {MAX_VOLUME_BYTES} bytes")
    return zlib.decompress(data[start:], -zlib.MAX_WBITS)


def beginning(data: bytes, most: int) -> bytes:
    """Return ``data``, the beginning of a file, with at most ``most`` bytes of what is deflated in it unpacked."""
    start = _deflated_start(data)
    return data if start is None else zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], most)


def whole(data: bytes) -> bytes:
    """Return a file, or, of a deflated one, the plain dataset in it."""
    start = _deflated_start(data)
    return data if start is None else _inflated(data, start)
