"""TIFF of the kinds that Pillow does not open: 16-bit and 64-bit floats, 64 bits, BigTIFF with the high byte first."""

from __future__ import annotations

import io
import itertools
import logging
import math
import zlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from data_tools.console import first_line
from data_tools.readers.slice import (
    PlacedSlice,
    RawSlice,
    UnreadableError,
    Volume,
    check_sides,
    check_volume,
    spread,
    to_stored,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds odd it either raises or reads

MAX_PAGES = 1 << 13
"""The most pages of a TIFF: Pillow compares each page's place with those of all before it."""

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How one begins."""

_PLAIN, _DEFLATE = 1, (8, 32946)
_WHITE_IS_0, _BLACK_IS_0 = 0, 1
_ORIENTATION = 274


def read_tiff(data: bytes) -> Volume:
    """Read each page that is no smaller copy as a gray slice; UnreadableError says what of it is not read."""
    from tifffile import TiffFile

    try:
        with TiffFile(io.BytesIO(data)) as file:
            pages = _read_pages(file, data)
    except UnreadableError:
        raise
    # tifffile raises whatever a damaged file leads it to.
    except Exception as error:
        raise UnreadableError(f"a TIFF that is damaged, or of a kind that is not read ({first_line(error)})") from None
    if not pages:
        raise UnreadableError("a TIFF of nothing but smaller copies")
    slices = [PlacedSlice(RawSlice(page), number, spread(number, len(pages))) for number, page in enumerate(pages)]
    return Volume(slices, noisy_air=False)


def _read_pages(file: TiffFile, data: bytes) -> list[npt.NDArray[Any]]:
    pages: list[npt.NDArray[Any]] = []
    size = 0
    if not len(file.pages):
        raise UnreadableError("a truncated or damaged TIFF: it has no page")
    for number, found in enumerate(itertools.islice(file.pages, MAX_PAGES + 1)):
        if number == MAX_PAGES:
            raise UnreadableError(f"a TIFF of more than {MAX_PAGES} pages")
        page = cast("TiffPage", found)  # it would be a frame only on request
        if page.is_reduced:
            continue
        _check_kind(page)
        size += page.nbytes
        check_volume(number + 1, size)
        _check_rows(page, data)
        pages.append(to_stored(np.asarray(page.asarray())))
    return pages


def _check_kind(page: TiffPage) -> None:
    """Refuse a page that is no plain gray picture, by what its tags say."""
    check_sides(page.imagelength, page.imagewidth)
    if page.dtype is None:
        raise UnreadableError(f"numbers of {page.bitspersample} bits; save it with 8, 16 or 32")
    if page.samplesperpixel != 1 or page.imagedepth != 1:
        raise UnreadableError(f"several {page.dtype} numbers a pixel; convert it to gray")
    if page.photometric == _WHITE_IS_0:
        raise UnreadableError("0 is white (MinIsWhite), which is not read for this type; invert it")
    if page.photometric != _BLACK_IS_0:
        raise UnreadableError(f"{page.dtype} numbers that are not gray values; convert it to gray")
    if page.compression not in (_PLAIN, *_DEFLATE):
        raise UnreadableError(f"{page.dtype} numbers in a compression other than deflate; save it uncompressed")
    if int(page.tags.valueof(_ORIENTATION, 1)) != 1:
        raise UnreadableError("its orientation tag turns it, which is not done for this type; save it turned")


def _check_rows(page: TiffPage, data: bytes) -> None:
    """Refuse a page whose strips hold less than its rows or much more, before it is unpacked whole."""
    size = sum(
        _unpacked(data[start : start + count], page)
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
    if size < page.nbytes:
        raise UnreadableError("a truncated or damaged TIFF: rows are missing")


def _unpacked(strip: bytes, page: TiffPage) -> int:
    """Return how many bytes a strip or tile unpacks to."""
    if page.compression == _PLAIN:
        return len(strip)
    # A tile may be larger than the picture.
    most = max(page.nbytes, math.prod(page.chunks) * page.nbytes // math.prod(page.shape))
    inflate = zlib.decompressobj()
    size = len(inflate.decompress(strip, most + 1))
    if size > most:
        raise UnreadableError("it holds more pixel data than its header claims")
    return size
