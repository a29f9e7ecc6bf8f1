"""A further format is one entry of the table: found, packed and named by its reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_tools.choices import Axis
from data_tools.readers.formats import FORMATS, Format
from data_tools.readers.slice import PlacedSlice, RawSlice, UnreadableError, Volume
from tests.data_tools.slices import Pack


def _read_gray_map(data: bytes, axis: Axis, volume: int) -> Volume:
    _, width, height, _, pixels = data.split(maxsplit=4)
    try:
        gray = np.frombuffer(pixels, np.uint8).reshape(int(height), int(width))
    except ValueError:
        raise UnreadableError("its size is not that of its pixels") from None
    return Volume([PlacedSlice(RawSlice(gray), 0, 0.5)], noisy_air=False)


def test_an_entry_is_all_that_a_further_format_takes(
    tmp_path: Path, pack_here: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    further = Format(lambda head: head.startswith(b"P5"), (".pgm",), _read_gray_map)
    monkeypatch.setitem(FORMATS, "gray map", further)
    gray = np.zeros((20, 30), np.uint8)
    gray[5:15, 5:25] = 200
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "good.anything").write_bytes(b"P5 30 20 255\n" + gray.tobytes())
    (folder / "wrong.anything").write_bytes(b"P5 31 20 255\n" + gray.tobytes())
    (folder / "empty.pgm").write_bytes(b"")
    with pack_here(folder) as reader:
        np.testing.assert_array_equal(reader.read(reader.groups[0].name, 0), gray)
    said = capsys.readouterr().err
    assert "wrong.anything: its size is not that of its pixels" in said
    assert "empty.pgm: empty" in said
