import contextlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_tools.console import CommandError
from data_tools.slicefile import SliceReader
from data_tools.verify import verify


def everything(path: Path) -> dict[str, bytes]:
    """All that can be read of a file."""
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda n, item: found.update({n: item[:].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
        found |= {name: repr(value).encode() for name, value in file.attrs.items()}
    return found


def test_a_good_file_passes(phantom_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(phantom_file)
    assert "36 slices as packed" in capsys.readouterr().out


def test_no_flipped_bit_is_overlooked_unless_nothing_lies_there(copy: Path) -> None:
    """A flip either fails ``verify`` or was in a byte that holds nothing: then everything reads as before."""
    good, data = everything(copy), copy.read_bytes()
    random = np.random.default_rng(0)
    caught = 0
    for place in random.integers(0, len(data), 80):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        copy.write_bytes(damaged)
        try:
            verify(copy)
        except CommandError:
            caught += 1
        else:
            assert everything(copy) == good
    assert caught > 30


def test_every_flip_in_pixels_is_caught_and_its_slice_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(copy) as file:
        pixels = file["images/32x32_uint8/slices"]
        places = {row: pixels.id.get_chunk_info_by_coord((row, 0, 0)).byte_offset for row in (0, 17, 35)}
    data = bytearray(copy.read_bytes())
    for place in places.values():
        data[place + 500] ^= 128
    copy.write_bytes(data)
    with pytest.raises(CommandError, match="3 of 36 slices damaged"):
        verify(copy)
    said = capsys.readouterr().err
    assert all(f"32x32_uint8 row {row}:" in said for row in places)


def test_pixels_changed_with_their_checksum_are_caught(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(copy, "a") as file:
        file["images/32x32_uint8/slices"][9, 3, 3] ^= 1
    with pytest.raises(CommandError, match="1 of 36"):
        verify(copy)
    assert "row 9: its pixels are not those that were packed" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["subject", "split", "position", "window", "label", "slice_index"])
def test_an_index_changed_with_its_checksum_is_caught(column: str, copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        values = file[f"images/32x32_uint8/{column}"]
        values[0] = values[0] + 1
    with pytest.raises(CommandError, match=r"faults? beside"):
        verify(copy)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_caught(share: float, copy: Path) -> None:
    data = copy.read_bytes()
    copy.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CommandError):
        verify(copy)


def test_damage_anywhere_never_gives_wrong_pixels(copy: Path) -> None:
    """What a reader hands out is right, or it is a CommandError; no other exception, and nothing silent."""
    data = copy.read_bytes()
    with SliceReader(copy) as reader:
        good = [reader.scaled("32x32_uint8", row) for row in range(36)]
    random, right = np.random.default_rng(1), 0
    for _ in range(50):
        damaged = bytearray(data)
        start = int(random.integers(0, len(data)))
        damaged[start : start + 64] = random.bytes(len(damaged[start : start + 64]))
        copy.write_bytes(damaged)
        reader = SliceReader(copy)
        for row in range(36):
            with contextlib.suppress(CommandError):
                found = reader.scaled("32x32_uint8", row)
                np.testing.assert_array_equal(found, good[row])
                right += 1
        reader.close()
    assert 0 < right < 36 * 50
