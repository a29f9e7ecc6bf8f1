import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.cli import run
from data_tools.console import CommandError, run_command
from data_tools.slicefile import SliceReader
from tests.data_tools.slices import read_first
from tests.hdf5_claims import bytes_of_another_file, linked, replaced, view_of_another_file


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: path.write_bytes(b""), "not an HDF5 file"),
        (lambda path: path.write_bytes(b"text" * 1000), "not an HDF5 file"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "damaged"),
    ],
)
def test_what_is_no_packed_file_is_named(prepare: Callable[[Path], object], words: str, copy: Path) -> None:
    prepare(copy)
    with pytest.raises(CommandError, match=words) as caught:
        read_first(SliceReader(copy))
    assert str(caught.value).startswith(f"{copy}: ")


def _replace(file: h5py.File, name: str, **options: Any) -> None:
    replaced(file, f"images/32x32_uint8/{name}", **options)


CLAIMS: dict[str, Callable[[h5py.File], object]] = {
    "no format": lambda file: file.attrs.pop("format"),
    "another format": lambda file: _attribute(file, "format", "codes"),
    "a later version": lambda file: file.attrs.__setitem__("version", 99),
    "no compression": lambda file: file.attrs.pop("compression"),
    "no images": lambda file: file.pop("images"),
    "a group that is a number": lambda file: file["images"].create_dataset("x", data=1),
    "a group of another name": lambda file: file.move("images/32x32_uint8", "images/32x33_uint8"),
    "a missing column": lambda file: file.pop("images/32x32_uint8/window"),
    "a short column": lambda file: _replace(file, "label", data=np.zeros(5, "<i4"), fletcher32=True),
    "a column of another type": lambda file: _replace(file, "label", data=np.zeros(36), fletcher32=True),
    "a column without checksums": lambda file: _replace(file, "label", data=np.zeros(36, "<i4")),
    "a link into another file": lambda file: linked(file, "images/32x32_uint8/slices"),
    "10^12 slices": lambda file: file["images/32x32_uint8/slices"].resize(10**12, axis=0),
    "slices of 10^10 pixels": lambda file: _replace(
        file, "slices", shape=(36, 10**5, 10**5), dtype="u1", chunks=(1, 8, 8), fletcher32=True
    ),
}


def _soft_link(file: h5py.File) -> None:
    file["elsewhere"] = file["images/32x32_uint8/label"]
    del file["images/32x32_uint8/label"]
    file["images/32x32_uint8/label"] = h5py.SoftLink("/elsewhere")


def _attribute(file: h5py.File, name: str, value: str) -> None:
    file.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", max(1, len(value))))


CLAIMS |= {
    "a format of variable length": lambda file: file.attrs.__setitem__("format", "brain-slices"),
    "an attribute that points elsewhere": lambda file: file.attrs.__setitem__("note", file["images"].ref),
    "an attribute of several values": lambda file: file.attrs.__setitem__("other", np.zeros(3)),
    "names of variable length": lambda file: replaced(
        file, "subjects/name", data=["x"] * 12, dtype=h5py.string_dtype()
    ),
    "a format that is a number": lambda file: file.attrs.__setitem__("format", 3),
    "a version that is a list": lambda file: file.attrs.__setitem__("version", [1, 1]),
    "no digest": lambda file: file.attrs.pop("digest"),
    "a digest that is a number": lambda file: file.attrs.__setitem__("digest", 1.5),
    "a format that is not text": lambda file: file.attrs.__setitem__("format", np.void(b"\xff\xfe")),
    "no names of subjects": lambda file: file.pop("subjects"),
    "subjects that are a link into another file": lambda file: linked(file, "subjects"),
    "images that are a link into another file": lambda file: linked(file, "images"),
    "a group that is a link into another file": lambda file: linked(file, "images/32x32_uint8"),
    "a column that is a link": _soft_link,
    "names that are the bytes of another file": lambda file: bytes_of_another_file(file, "subjects/name"),
    "names that are a view into another file": lambda file: view_of_another_file(file, "classes/name"),
    "pixels that are a view into another file": lambda file: view_of_another_file(file, "images/32x32_uint8/slices"),
    "a column that is a view into another file": lambda file: view_of_another_file(file, "images/32x32_uint8/window"),
    "10^12 sources": lambda file: [file[f"sources/{name}"].resize(10**12, axis=0) for name in file["sources"]],
    "10^12 sources in one column": lambda file: file["sources/noisy_air"].resize(10**12, axis=0),
    "names that are numbers": lambda file: replaced(file, "subjects/name", data=np.arange(12)),
    "names in a chunk of 100 MB": lambda file: replaced(
        file, "subjects/name", shape=(12,), dtype="S10000000", chunks=(10,), compression="gzip"
    ),
    "names of 400 MB": lambda file: replaced(
        file, "subjects/name", shape=(400,), dtype="S1000000", chunks=(1,), compression="gzip"
    ),
    "a column in a chunk of 800 MB": lambda file: _replace(
        file, "window", shape=(36, 2), dtype="<f8", chunks=(50_000_000, 2), maxshape=(None, 2), fletcher32=True
    ),
    "no slices": lambda file: file["images/32x32_uint8"].pop("slices"),
    "slices of one dimension": lambda file: _replace(file, "slices", data=np.zeros(36, "u1"), fletcher32=True),
    "slices without data": lambda file: _replace(file, "slices", data=h5py.Empty("u1")),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_file_that_only_claims_to_be_ours_is_named(claim: str, copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        CLAIMS[claim](file)
    with pytest.raises(CommandError, match=str(copy)), SliceReader(copy) as reader:
        read_all_tables(reader)


def read_all_tables(reader: SliceReader) -> None:
    """What every use of a file begins with."""
    for group in reader.groups:
        reader.index(group.name)
    assert isinstance(reader.digest, str)
    reader.source(0)
    assert len(reader.subjects) + len(reader.classes) > 0


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("command", ["info", "verify", "export"])
def test_commands_say_so_in_a_line_and_exit_1(
    claim: str, command: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(copy, "a") as file:
        CLAIMS[claim](file)
    arguments = [command, str(copy), *([str(tmp_path / "out")] if command == "export" else [])]
    assert run_command(run, arguments) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"error: {copy}: ")
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["settings_json", "subject_rules_json", "split_rules_json"])
@pytest.mark.parametrize("value", ["{", "[1]", "[" * 100_000, 3.5, "9" * 10_000])
def test_attributes_that_are_not_what_is_shown_are_damage(
    name: str, value: object, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(copy, "a") as file:
        if isinstance(value, str) and len(value) > 60_000:  # attributes beyond 64 kB lie apart
            value = value[:60_000]
        _attribute(file, name, value) if isinstance(value, str) else file.attrs.__setitem__(name, value)
    assert run_command(run, ["info", str(copy)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {copy}: ")


@pytest.mark.parametrize(
    "filters", [{"shuffle": True}, {"compression": "gzip"}, {"compression": 32000, "allow_unknown_filter": True}, {}]
)
def test_pixels_behind_other_filters_than_the_file_says_are_refused(filters: dict[str, Any], copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        _replace(file, "slices", shape=(36, 32, 32), dtype="u1", chunks=(1, 32, 32), fletcher32=True, **filters)
        if not filters:
            _attribute(file, "compression", "lz4")
    with pytest.raises(CommandError, match="not what its name says"):
        read_first(SliceReader(copy))


def test_a_chunk_that_went_past_its_checksum_is_named(copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        file["images/32x32_uint8/slices"].id.write_direct_chunk((0, 0, 0), bytes(1024), filter_mask=1)
    with pytest.raises(CommandError, match="32x32_uint8 row 0 is damaged"):
        read_first(SliceReader(copy))


@pytest.mark.parametrize(
    ("column", "value"), [("label", 0), ("label", -2), ("split", 3), ("position", 1.5), ("position", np.nan)]
)
def test_an_index_that_points_nowhere_is_damage(column: str, value: float, copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        file[f"images/32x32_uint8/{column}"][3] = value
    with pytest.raises(CommandError, match=f"the index of 32x32_uint8 is damaged .{column} {value}\\b"):
        SliceReader(copy).index("32x32_uint8")


@pytest.mark.parametrize("window", [(0, np.nan), (np.inf, 0), (0, 1e39), (-3e38, 3e38), (7, 7)])
def test_a_window_that_nothing_can_be_scaled_by_is_damage(window: tuple[float, float], copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        file["images/32x32_uint8/window"][3] = window
    with pytest.raises(CommandError, match="a window that is not finite"):
        SliceReader(copy).index("32x32_uint8")
