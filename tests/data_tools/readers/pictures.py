"""Pictures as bytes, and what the readers make of them."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from data_tools.readers.formats import read_file
from data_tools.readers.slice import Volume
from tests.data_tools.slices import Pixels


def encoded(pixels: Pixels | Image.Image, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes) -> Volume:
    return read_file(data, axis="auto", volume=0)


def pixels_of(data: bytes) -> Pixels:
    (placed,) = read(data).slices
    return placed.slice.pixels


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""Of an interlaced PNG: first column and row, steps to the next."""
