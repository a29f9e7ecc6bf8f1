"""PNG, JPEG, TIFF and BMP images of 8 or 16 bits (float TIFF too), read without losing depth."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_tools.readers.slice import PlacedSlice, RawSlice, UnreadableError, Volume, check_sides, spread, to_stored

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")

# Sizes are checked before anything is unpacked; Pillow's own guard would only warn.
Image.MAX_IMAGE_PIXELS = None


def read_image(data: bytes) -> Volume:
    """Read an image, or each page of a TIFF, as gray slices; raise UnreadableError where that would lose something."""
    if data.startswith(b"\x89PNG"):
        _check_png(data)
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "TIFF":
            raise UnreadableError(f"an animation of {frames} pictures")
        slices = []
        for frame in range(frames):
            image.seek(frame)
            check_sides(image.height, image.width)
            slices.append(PlacedSlice(RawSlice(to_stored(_gray(image, data))), frame, spread(frame, frames)))
        noisy = image.format == "JPEG" or image.info.get("compression") == "jpeg"
    return Volume(slices, noisy_air=noisy)


def _gray(image: Image.Image, data: bytes) -> npt.NDArray[Any]:
    """Return the gray values (H, W) of the image's current page."""
    if image.mode in ("P", "PA"):
        transparent = image.mode == "PA" or "transparency" in image.info
        return _gray_of_colours(np.asarray(image.convert("RGBA" if transparent else "RGB")))
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("RGB", "RGBA", "LA"):
        return _gray_of_colours(_colours(image, data))
    if image.mode == "L" or image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    raise UnreadableError(f"colour mode {image.mode}; convert it to gray")


def _colours(image: Image.Image, data: bytes) -> npt.NDArray[Any]:
    """Return the channels (H, W, C) in their full depth; Pillow by itself cuts 16-bit colour to 8 bits."""
    depth = data[24] if image.format == "PNG" else max(_tiff_depths(image), default=8)
    if depth <= 8:
        return np.asarray(image)
    if image.format != "PNG" or image.mode == "LA":
        raise UnreadableError(f"{depth} bits in {len(image.mode)} channels; store it as gray without alpha")
    high: npt.NDArray[Any] = np.asarray(image).astype(np.uint16)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        # Read as little endian, the byte Pillow keeps of each big-endian number is the low one.
        again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
        low = np.asarray(again)
    both: npt.NDArray[Any] = high << 8 | low
    return both


def _tiff_depths(image: Image.Image) -> tuple[int, ...]:
    bits_per_sample = 258
    tags = getattr(image, "tag_v2", None)
    return tuple(tags.get(bits_per_sample, ())) if tags is not None else ()


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


def _check_png(data: bytes) -> None:
    """Check every chunk's CRC and that none is missing; Pillow does not check those of the pixels."""
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        length = int.from_bytes(view[start : start + 4], "big")
        end = start + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableError("a damaged PNG: a checksum does not match")
        if bytes(view[start + 4 : start + 8]) == b"IEND":
            return
        start = end
    raise UnreadableError("a truncated PNG")
