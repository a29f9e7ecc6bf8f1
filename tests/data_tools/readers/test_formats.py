"""A further format is one entry of the table: found, packed and named by its reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from data_tools.choices import Axis
from data_tools.readers.formats import FORMATS, Format, labels, without_suffixes
from data_tools.readers.slice import PlacedSlice, RawSlice, UnreadableError, Volume
from tests.data_tools.slices import Pack, Save


def _read_gray_map(data: bytes, axis: Axis, volume: int) -> Volume:
    _, width, height, _, pixels = data.split(maxsplit=4)
    try:
        gray = np.frombuffer(pixels, np.uint8).reshape(int(height), int(width))
    except ValueError:
        raise UnreadableError("its size is not that of its pixels") from None
    return Volume([PlacedSlice(RawSlice(gray), 0, 0.5)], noisy_air=False)


GRAY_MAP = Format("PGM", lambda head: head.startswith(b"P5"), (".pgm",), _read_gray_map)


def gray_map(level: int = 200) -> tuple[npt.NDArray[np.uint8], bytes]:
    """Pixels and the file that holds them."""
    gray = np.zeros((20, 30), np.uint8)
    gray[5:15, 5:25] = level
    return gray, b"P5 30 20 255\n" + gray.tobytes()


def test_an_entry_is_all_that_a_further_format_takes(
    tmp_path: Path, pack_here: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FORMATS, "gray map", GRAY_MAP)
    gray, content = gray_map()
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "good.anything").write_bytes(content)
    (folder / "wrong.anything").write_bytes(content.replace(b"P5 30", b"P5 31"))
    (folder / "empty.pgm").write_bytes(b"")
    (folder / "text").write_text("hello")
    with pack_here(folder) as reader:
        np.testing.assert_array_equal(reader.read(reader.groups[0].name, 0), gray)
    said = capsys.readouterr().err
    assert "wrong.anything: its size is not that of its pixels" in said
    assert "empty.pgm: empty" in said
    assert f"text: none of {labels()}" in said
    assert "PGM" in labels()


def test_a_subject_in_a_further_format_and_a_known_one_is_one(
    tmp_path: Path, pack_here: Pack, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "gray map", GRAY_MAP)
    folder = save("maps/anna_slice_0.png", gray_map(100)[0])
    (folder / "maps" / "anna_slice_1.pgm").write_bytes(gray_map()[1])
    (folder / "maps" / "bert_slice_0.PGM").write_bytes(gray_map(50)[1])
    with pack_here(folder) as reader:
        assert list(reader.subjects) == ["anna", "bert"]


@pytest.mark.parametrize("suffix", [suffix for kind in FORMATS.values() for suffix in kind.suffixes])
def test_what_a_format_ends_names_with_is_no_part_of_a_subject(suffix: str) -> None:
    assert without_suffixes(f"anna.b{suffix}") == without_suffixes(f"anna.b{suffix.upper()}") == "anna.b"
    assert without_suffixes(f"anna{suffix}.png") == "anna"


def test_help_names_a_further_format() -> None:
    code = (
        "from data_tools.readers import formats\n"
        "formats.FORMATS['gray map'] = formats.FORMATS['image']._replace(label='PGM')\n"
        "from data_tools.cli import run; run(['pack', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"Pack slices ({labels()}, PGM, also mixed) into" in " ".join(done.stdout.split())
