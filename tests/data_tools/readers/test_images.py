import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from data_tools.export import save_exactly
from data_tools.readers.slice import UnreadableError
from data_tools.slice_format import MAX_SLICE_PIXELS
from tests.data_tools.readers.pictures import encoded, pixels_of, read
from tests.data_tools.slices import Pixels, brain

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""Of an interlaced PNG: first column and row, steps to the next."""


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, interlaced: int = 0) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def deep_png(channels: Pixels) -> bytes:
    """A 16-bit PNG of (H, W, C) channels, the second half of its rows filtered by difference to the row above."""
    big = channels.astype(">u2").reshape(len(channels), -1).view(np.uint8)
    half = len(big) // 2
    rows = b"".join(b"\0" + row.tobytes() for row in big[:half])
    rows += b"".join(b"\2" + (big[n] - big[n - 1]).tobytes() for n in range(half, len(big)))
    return png(channels.shape[1], channels.shape[0], 16, {2: 4, 3: 2, 4: 6}[channels.shape[2]], rows)


@pytest.mark.parametrize(("kind", "dtype"), [("png", "uint8"), ("png", "uint16"), ("tiff", "uint16"), ("bmp", "uint8")])
def test_gray_keeps_its_full_depth(kind: str, dtype: str) -> None:
    expected = brain(dtype=dtype)
    found = pixels_of(encoded(expected, kind))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint16", "uint8"])
def test_what_export_writes_reads_back_exactly(dtype: str, tmp_path: Path) -> None:
    expected = (brain(dtype="uint16").astype("float64") - (0 if dtype[0] == "u" else 2000)).astype(dtype)
    if dtype == "uint8":
        expected = brain()
    path = tmp_path / ("a.png" if dtype[0] == "u" else "a.tif")
    save_exactly(expected, path)
    found = pixels_of(path.read_bytes())
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_gray_stored_in_colour_is_gray(mode: str) -> None:
    gray = Image.fromarray(brain())
    image = gray.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else gray.convert(mode)
    np.testing.assert_array_equal(pixels_of(encoded(image)), np.asarray(image.convert("RGB"))[..., 0])


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_gray_stored_in_colour_keeps_16_bits(channels: int) -> None:
    gray = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(np.uint16)
    stacked = np.stack([gray] * channels, axis=-1)
    if channels == 4:
        stacked[..., 3] = 65535
    found = pixels_of(deep_png(stacked))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, gray)


def test_16_bit_colours_that_differ_in_the_low_byte_are_colours() -> None:
    gray = np.full((4, 4), 500, np.uint16)
    with pytest.raises(UnreadableError, match="colour"):
        read(deep_png(np.stack([gray, gray, gray + 1], axis=-1)))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)), "colour"),
        (Image.merge("LA", [Image.new("L", (8, 8), 9), Image.new("L", (8, 8), 100)]), "transparent"),
    ],
)
def test_colour_and_transparency_are_refused_and_named(image: Image.Image, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read(encoded(image))


@pytest.mark.parametrize(("mode", "colour"), [("L", 9), ("RGB", (9, 9, 9)), ("I;16", 900), ("1", 0)])
def test_a_colour_that_counts_as_transparent_is_named(mode: str, colour: Any) -> None:
    image = Image.new(mode, (8, 8), colour)
    read(encoded(image))
    with pytest.raises(UnreadableError, match="transparent"):
        read(encoded(image, transparency=colour))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_a_picture_is_read_as_its_orientation_shows_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(brain())
    data = encoded(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as again:
        expected = np.asarray(ImageOps.exif_transpose(again))
    np.testing.assert_array_equal(pixels_of(data), expected)


def test_damaged_exif_data_spoil_no_picture() -> None:
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"):
        data = encoded(Image.fromarray(brain()), "jpeg", exif=exif)
        np.testing.assert_array_equal(pixels_of(data), pixels_of(encoded(Image.fromarray(brain()), "jpeg")))


def test_cmyk_is_refused_and_named() -> None:
    with pytest.raises(UnreadableError, match="CMYK"):
        read(encoded(Image.new("CMYK", (8, 8)), "jpeg"))


def test_air_is_noisy_in_jpeg_and_not_in_png() -> None:
    assert read(encoded(brain(), "jpeg")).noisy_air
    assert not read(encoded(brain(), "png")).noisy_air


def test_any_flipped_bit_of_a_png_is_noticed() -> None:
    data = encoded(brain(8, 8))
    for byte in range(8, len(data)):
        damaged = bytearray(data)
        damaged[byte] ^= 16
        with pytest.raises(Exception):  # noqa: B017  whatever the decoder raises, but never pixels
            read(bytes(damaged))


def test_a_truncated_image_is_noticed() -> None:
    for kind in ("png", "jpeg", "bmp", "tiff"):
        data = encoded(brain(64, 64), kind)
        with pytest.raises(Exception):  # noqa: B017
            read(data[: len(data) * 2 // 3])


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    side = int(MAX_SLICE_PIXELS**0.5) + 1
    with pytest.raises(UnreadableError, match="larger than the limit"):
        read(png(side, side, 8, 0, b"\0"))


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"BM", b"\xff\xd8\xff", b"\0" * 600])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017
        read(data)


def test_a_png_without_all_its_rows_is_damaged() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in brain(20, 24))
    np.testing.assert_array_equal(pixels_of(png(24, 20, 8, 0, rows)), brain(20, 24))
    for missing in (25, 250):
        with pytest.raises(UnreadableError, match="rows are missing"):
            read(png(24, 20, 8, 0, rows[:-missing]))


@pytest.mark.parametrize("ending", [0, 255])
@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_rows_are_counted_whatever_the_last_ones_hold(depth: int, ending: int) -> None:
    row, last = b"\0" + b"\x55" * depth, b"\0" + bytes([ending]) * depth  # 8 pixels
    found = pixels_of(png(8, 5, depth, 0, row * 3 + last * 2))
    assert (found[3:] == (0 if ending == 0 else np.iinfo(found.dtype).max)).all()
    for rows in (row * 3 + last, row * 3):
        with pytest.raises(UnreadableError, match="rows are missing"):
            read(png(8, 5, depth, 0, rows))
    with pytest.raises((UnreadableError, OSError)):  # Pillow knows of half a row
        read(png(8, 5, depth, 0, (row * 3 + last * 2)[:-1]))


def test_rows_are_counted_also_where_pillow_decodes_into_other_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ImageFile.load_prepare

    def prepared(image: ImageFile) -> None:
        image.im = Image.new(image.mode, image.size).im
        load(image)

    monkeypatch.setattr(ImageFile, "load_prepare", prepared)
    rows = b"".join(b"\0" + row.tobytes() for row in brain(20, 24))
    np.testing.assert_array_equal(pixels_of(png(24, 20, 8, 0, rows)), brain(20, 24))
    with pytest.raises(UnreadableError, match="rows are missing"):
        read(png(24, 20, 8, 0, rows[:-25]))


@pytest.mark.parametrize("size", [(2, 3), (5, 2), (9, 13), (16, 16)])
@pytest.mark.parametrize("depth", [1, 4, 8, 16])
def test_interlaced_rows_are_counted(size: tuple[int, int], depth: int) -> None:
    width, height = size
    columns, lines = np.meshgrid(np.arange(width), np.arange(height))
    rows: list[bytes] = []
    for left, top, right, down in PASSES:
        chosen = (columns % right == left) & (lines % down == top)
        for across in filter(None, chosen.sum(1)):
            rows.append(bytes(1 + (int(across) * depth + 7) // 8))
    assert pixels_of(png(width, height, depth, 0, b"".join(rows), interlaced=1)).shape == (height, width)
    with pytest.raises(UnreadableError, match="rows are missing"):
        read(png(width, height, depth, 0, b"".join(rows[:-1]), interlaced=1))


def test_kinds_that_are_not_read_say_which() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.full((9, 11), 0.1))
    with pytest.raises(UnreadableError, match="float64 values fit neither int16 nor float32 exactly"):
        read(stream.getvalue())
