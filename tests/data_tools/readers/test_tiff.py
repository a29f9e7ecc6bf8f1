import io
import zlib
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from PIL import Image

from data_tools.readers.slice import UnreadableError
from tests.data_tools.readers.pictures import encoded, pixels_of, read
from tests.data_tools.slices import Pixels, brain


def test_a_turned_tiff_that_pillow_does_not_read_is_named() -> None:
    deep = np.stack([brain().astype(np.uint16) * 9] * 3, axis=-1)
    with pytest.raises(UnreadableError, match="its orientation tag turns it"):
        read(tiff(deep, photometric="rgb", extratags=[(274, "H", 1, 6, True)]))


def test_pages_of_a_tiff_are_slices_in_order() -> None:
    pages = [Image.fromarray(brain(seed=seed)) for seed in range(3)]
    volume = read(encoded(pages[0], "tiff", save_all=True, append_images=pages[1:]))
    assert [placed.index for placed in volume.slices] == [0, 1, 2]
    assert [placed.position for placed in volume.slices] == [0, 0.5, 1]
    np.testing.assert_array_equal(volume.slices[2].slice.pixels, brain(seed=2))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_sixteen_bit_gray_stored_as_rgb_tiff_keeps_its_depth(planar: str) -> None:
    gray = np.random.default_rng(0).integers(0, 65536, (9, 11), dtype=np.uint16)
    channels = np.stack([gray] * 3, axis=-1 if planar == "contig" else 0)
    stream = io.BytesIO()
    tifffile.imwrite(stream, channels, photometric="rgb", planarconfig=planar)
    found = pixels_of(stream.getvalue())
    assert found.dtype == np.uint16
    assert (found == gray).all()


def tiff(pixels: Pixels, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["int8", "uint32"])
def test_signs_of_a_tiff_are_those_it_states(dtype: str) -> None:
    expected = np.array([[-47, 100, 3], [0, 9, -128]] if dtype == "int8" else [[70000, 100, 3], [0, 9, 1 << 31]])
    np.testing.assert_array_equal(pixels_of(tiff(expected.astype(dtype))), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_numbers_of_a_tiff_in_either_byte_order(
    dtype: str, options: dict[str, Any], byteorder: Literal["<", ">"]
) -> None:
    expected = np.random.default_rng(1).integers(0 if dtype[0] == "u" else -90, 120, (9, 11)).astype(dtype)
    if dtype == "float32":
        options = {key: value for key, value in options.items() if key != "predictor"}  # which tifffile does not write
    data = tiff(expected.astype(np.dtype(dtype).newbyteorder(byteorder)), byteorder=byteorder, **options)
    np.testing.assert_array_equal(pixels_of(data), expected)


def test_a_uint32_that_would_wrap_is_refused() -> None:
    with pytest.raises(UnreadableError, match="fit neither int16 nor float32 exactly"):
        read(tiff(np.array([[4294967295, 100], [0, 9]], np.uint32)))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int8", "float32"])
def test_white_as_0_is_refused_beyond_8_bits(dtype: str) -> None:
    assert pixels_of(tiff(brain(), photometric="miniswhite")).max() == 255
    with pytest.raises(UnreadableError, match=r"MinIsWhite|pixel type that is not read"):
        read(tiff(brain().astype(dtype), photometric="miniswhite"))


def test_smaller_copies_in_a_tiff_are_no_slices() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for seed in range(2):
            file.write(brain(seed=seed))
            file.write(brain(seed=seed)[::2, ::2].copy(), subfiletype=1)
    found = [placed.slice.pixels for placed in read(stream.getvalue()).slices]
    np.testing.assert_array_equal(found, [brain(seed=0), brain(seed=1)])
    with pytest.raises(UnreadableError, match="nothing but smaller copies"):
        read(tiff(brain(), subfiletype=1))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64", "float16", "float64"])
def test_numbers_that_pillow_does_not_read_are_read(
    dtype: str, byteorder: Literal["<", ">"], bigtiff: bool, options: dict[str, Any]
) -> None:
    expected = np.random.default_rng(1).integers(0, 2000, (2, 9, 11)).astype(dtype)
    if dtype not in ("uint16", "uint32"):
        options = {key: value for key, value in options.items() if key != "predictor"}  # which tifffile does not write
    if dtype == "float64":
        expected /= 4
    data = tiff(
        expected.astype(np.dtype(dtype).newbyteorder(byteorder)), byteorder=byteorder, bigtiff=bigtiff, **options
    )
    found = [placed.slice.pixels for placed in read(data).slices]
    np.testing.assert_array_equal(found, expected)
    assert found[0].dtype == ("float32" if dtype.startswith("float") else "uint16" if dtype == "uint16" else "int16")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"photometric": "miniswhite"}, "0 is white"),
        ({"extratags": [(274, "H", 1, 6, True)]}, "its orientation tag turns it"),
        ({"subfiletype": 1}, "nothing but smaller copies"),
    ],
)
def test_what_is_not_read_of_them_says_why(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read(tiff(brain().astype(np.float16), **options))
    with pytest.raises(UnreadableError, match="several float16 numbers a pixel"):
        read(tiff(np.zeros((9, 11, 3), np.float16), photometric="rgb"))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_damage_of_them_is_named(compression: str | None) -> None:
    data = tiff(brain().astype(np.float16), compression=compression, rowsperstrip=4)
    for length in range(8, len(data), 7):
        with pytest.raises((UnreadableError, OSError), match=r"damaged|truncated|decoder error"):
            read(data[:length])


def test_a_strip_that_unpacks_to_more_than_the_page_is_refused() -> None:
    bomb = zlib.compress(bytes(1 << 24))
    data = tiff(np.zeros((20, 24), np.float16), compression="zlib", rowsperstrip=20)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        (start,) = page.dataoffsets
        tag = page.tags["StripByteCounts"]
    damaged = bytearray(data[:start] + bomb)
    at, size = tag.valueoffset, 4 if tag.dtype == 4 else 2
    damaged[at : at + size] = len(bomb).to_bytes(size, "little")
    with pytest.raises(UnreadableError, match="more pixel data than its header claims"):
        read(bytes(damaged))
