"""PNG, JPEG, TIFF and BMP images of 8 or 16 bits (float TIFF too), read without losing depth."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from data_tools.console import first_line
from data_tools.readers.png import check_chunks, check_rows
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
from data_tools.readers.tiff import MAX_PAGES, TIFF_MAGIC, read_tiff
from data_tools.slice_format import MAX_SLICE_PIXELS

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")

# Pillow warns above this and raises above twice as much before it unpacks anything, for pydicom's JPEG decoders too.
Image.MAX_IMAGE_PIXELS = MAX_SLICE_PIXELS // 2

_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 258, 262, 339
"""Tags of a TIFF page, and some of their values."""
_ORIENTATION = 274
_SMALLER_COPY = 1
_WHITE_IS_0 = 0
_UNSIGNED, _SIGNED = 1, 2


_WHITE = {"L": 255, "I;16": 65535}
"""The largest number in each mode of a gray PNG."""

_TURNS: dict[Any, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda page: np.rot90(page, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda page: np.rot90(page, -1),
    7: lambda page: np.rot90(page.T, 2),
    8: np.rot90,
}
"""How a picture is seen whose orientation is not 1."""


def read_image(data: bytes) -> Volume:
    """Read an image, or each page of a TIFF, as gray slices; raise UnreadableError where that would lose something."""
    if data.startswith(b"\x89PNG"):
        check_chunks(data)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.format != "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise UnreadableError(f"an animation of {getattr(image, 'n_frames', 1)} pictures")
            white = _paint_white(image, data) if image.format == "PNG" else None
            pages = list(_pages(image, data))
            if image.format == "PNG" and not (white is not None and image.im is white and _has_last_row(pages[0])):
                check_rows(data)
            pages = [_turned(page, image) for page in pages]
            noisy = image.format == "JPEG" or image.info.get("compression") == "jpeg"
    except Image.DecompressionBombError:
        raise UnreadableError(f"a slice larger than the limit of {MAX_SLICE_PIXELS} pixels") from None
    except UnidentifiedImageError:
        if data.startswith(TIFF_MAGIC):
            return read_tiff(data)
        raise UnreadableError("a damaged picture, or of a kind that is not read; save it as PNG") from None
    slices = [PlacedSlice(RawSlice(page), number, spread(number, len(pages))) for number, page in enumerate(pages)]
    return Volume(slices, noisy_air=noisy)


def _paint_white(image: Image.Image, data: bytes) -> Any:
    """Let rows of a plain gray PNG that its data does not reach be white instead of black; None for any other kind.

    Pillow decodes into the memory that is returned, if it is still the image's afterwards.
    """
    interlaced = data[28] != 0
    if interlaced or image.mode not in _WHITE:
        return None
    check_sides(image.height, image.width)
    image.im = Image.new(image.mode, image.size, _WHITE[image.mode]).im
    return image.im


def _has_last_row(page: npt.NDArray[Any]) -> bool:
    """Whether the last row of a page that was white is surely from the data, and so all rows, as they come in order.

    This saves inflating most files a second time to count them.
    """
    return bool((page[-1] != np.iinfo(page.dtype).max).any())


def _pages(image: Image.Image, data: bytes) -> Iterator[npt.NDArray[Any]]:
    """Yield the gray values of each page; small files can point to the same large page again and again."""
    pages = _find_pages(image)
    size = 0
    for number in pages:
        image.seek(number)
        page = to_stored(_gray(image, data))
        size += page.nbytes
        check_volume(len(pages), size)
        yield page


def _find_pages(image: Image.Image) -> list[int]:
    """Return the pages that are pictures of their own, after checking what the headers of all claim."""
    size = 0
    pages: list[int] = []
    for number in range(MAX_PAGES + 1):
        try:
            image.seek(number)
        except EOFError:
            break
        check_sides(image.height, image.width)
        size += image.height * image.width
        check_volume(number, size)
        if not _tiff_tag(image, _SUBFILE_TYPE, 0) & _SMALLER_COPY:
            pages.append(number)
    else:
        raise UnreadableError(f"a TIFF of more than {MAX_PAGES} pages")
    if not pages:
        raise UnreadableError("a TIFF of nothing but smaller copies")
    return pages


def _gray(image: Image.Image, data: bytes) -> npt.NDArray[Any]:
    """Return the gray values (H, W) of the image's current page."""
    if "transparency" in image.info and image.mode != "P":
        raise UnreadableError("one of its gray values or colours counts as transparent; save it without")
    if image.mode in ("P", "PA"):
        transparent = image.mode == "PA" or "transparency" in image.info
        return _gray_of_colours(np.asarray(image.convert("RGBA" if transparent else "RGB")))
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("RGB", "RGBA", "LA"):
        return _gray_of_colours(_colours(image, data))
    if image.mode == "L" or image.mode == "F" or image.mode.startswith("I"):
        return _numbers(image, data)
    raise UnreadableError(f"colour mode {image.mode}; convert it to gray")


def _numbers(image: Image.Image, data: bytes) -> npt.NDArray[Any]:
    """Return the numbers of a gray page; Pillow takes 8 bits for unsigned and 32 for signed, whatever a TIFF says.

    Of compressed numbers that begin with their high byte it takes the low byte first, but for unsigned ones of 16 bits.
    """
    big_endian = image.format == "TIFF" and data.startswith(b"MM")
    compressed = image.info.get("compression", "raw") != "raw"
    pixels: npt.NDArray[Any] = (
        _tiff_page(data, image.tell()) if big_endian and compressed and image.mode != "L" else np.asarray(image)
    )
    sign = _tiff_tag(image, _SAMPLE_FORMAT, _UNSIGNED)
    if _tiff_tag(image, _PHOTOMETRIC, None) == _WHITE_IS_0 and (image.mode != "L" or sign == _SIGNED):
        raise UnreadableError("0 is white (MinIsWhite), which is read for unsigned 8 bits only; invert it")
    if sign == _SIGNED and pixels.dtype == np.uint8:
        return pixels.view(np.int8)
    if sign == _UNSIGNED and pixels.dtype == np.int32:
        return pixels.view(np.uint32)
    return pixels


def _colours(image: Image.Image, data: bytes) -> npt.NDArray[Any]:
    """Return the channels (H, W, C) in their full depth; Pillow by itself cuts 16-bit colour to 8 bits."""
    depth = data[24] if image.format == "PNG" else max(_tiff_depths(image), default=8)
    if depth <= 8:
        return np.asarray(image)
    if image.format == "TIFF":
        return _tiff_page(data, image.tell())
    gray_with_alpha = data[25] == 4  # Pillow opens it as RGBA
    if image.format != "PNG" or image.mode == "LA" or gray_with_alpha:
        raise UnreadableError(f"{depth}-bit gray with alpha; store it as gray without alpha")
    high: npt.NDArray[Any] = np.asarray(image).astype(np.uint16)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        # Read as little endian, the byte Pillow keeps of each big-endian number is the low one.
        again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
        low = np.asarray(again)
    both: npt.NDArray[Any] = high << 8 | low
    return both


def _tiff_page(data: bytes, page: int) -> npt.NDArray[Any]:
    """Read a page of a TIFF in a type that Pillow has no mode for: (H, W), or (H, W, C) with channels."""
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(data)) as file:
        found: Any = file.pages[page]
        check_sides(found.imagelength, found.imagewidth)
        try:
            pixels: npt.NDArray[Any] = found.asarray()
        except ValueError as error:  # a compression that would need another package
            raise UnreadableError(f"{first_line(error)}; save it uncompressed") from None
        planes_apart = found.planarconfig == 2 and pixels.ndim == 3
        if int(found.tags.valueof(_ORIENTATION, 1)) != 1:
            raise UnreadableError("its orientation tag turns it, which is not done for this type; save it turned")
    return np.moveaxis(pixels, 0, -1) if planes_apart else pixels


def _turned(page: npt.NDArray[Any], image: Image.Image) -> npt.NDArray[Any]:
    """Return a page as its EXIF orientation shows it; Pillow does that by itself for TIFF alone."""
    if image.format == "TIFF":
        return page
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):  # damage beside the picture
        return page
    return np.ascontiguousarray(turn(page)) if turn else page


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    """Return the value of a tag of the current page, the first of several; ``default`` too where it is no TIFF."""
    found = getattr(image, "tag_v2", {}).get(tag, default)
    return found[0] if isinstance(found, tuple) and found else found


def _tiff_depths(image: Image.Image) -> tuple[int, ...]:
    return tuple(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ()))


def _gray_of_colours(channels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the gray of (H, W, C) where all colour channels agree and nothing is transparent."""
    count = channels.shape[2]
    if count in (2, 4):
        alpha, count = channels[..., -1], count - 1
        if (alpha != np.iinfo(alpha.dtype).max).any():
            raise UnreadableError("it has transparent pixels; flatten it to gray")
    gray: npt.NDArray[Any] = channels[..., 0]
    if any((channels[..., channel] != gray).any() for channel in range(1, count)):
        raise UnreadableError("it is in colour, not gray stored as RGB; convert it to gray")
    return gray
