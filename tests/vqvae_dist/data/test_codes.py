from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_tools.console import CommandError, UsageError
from tests.hdf5_claims import bytes_of_another_file, linked, replaced, view_of_another_file
from tests.vqvae_dist.data.code_files import K, columns, write
from vqvae_dist.data.codes import COLUMNS, CodesReader
from vqvae_dist.data.codes_digest import check_digest


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    reader = CodesReader(write(tmp_path / "codes.h5"))
    assert [(group.name, group.grid, group.size, group.count) for group in reader.groups] == [
        ("3x3_of_12x12_uint8", (3, 3), (12, 12), 6),
        ("4x5_of_15x18_uint8", (4, 5), (15, 18), 12),
    ]
    assert (reader.subjects, reader.classes, reader.codebook_size) == (["anna", "bert"], ["well", "ill"], K)
    expected = np.random.default_rng(0).integers(0, K, (12, 4, 5))
    assert np.array_equal(reader.codes("4x5_of_15x18_uint8", np.array([7, 2])), expected[[7, 2]])
    assert reader.foreground("4x5_of_15x18_uint8", np.array([7])).dtype == np.bool_
    assert reader.index("3x3_of_12x12_uint8").position.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_the_digest_follows_from_the_content_alone(tmp_path: Path) -> None:
    digest = CodesReader(write(tmp_path / "a.h5")).digest
    assert CodesReader(write(tmp_path / "b.h5", parts=3)).digest == digest
    assert CodesReader(write(tmp_path / "c.h5", weights="cd")).digest != digest
    assert CodesReader(write(tmp_path / "d.h5", label=np.zeros(12))).digest != digest


def test_rows_are_those_of_a_split_with_or_without_further_views(tmp_path: Path) -> None:
    reader = CodesReader(write(tmp_path / "codes.h5", view=np.arange(12) % 2))
    assert reader.rows("4x5_of_15x18_uint8", "validate", views=True).tolist() == [1, 4, 7, 10]
    assert reader.rows("4x5_of_15x18_uint8", "validate", views=False).tolist() == [4, 10]
    assert len(reader.rows("4x5_of_15x18_uint8", "all", views=True)) == 12
    with pytest.raises(UsageError, match="no split 'training'"):
        reader.rows("4x5_of_15x18_uint8", "training", views=True)


def test_a_reader_travels_to_other_processes_as_its_path(tmp_path: Path) -> None:
    reader = CodesReader(write(tmp_path / "codes.h5"))
    rows = reader.rows("4x5_of_15x18_uint8", "train", views=True)
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).rows("4x5_of_15x18_uint8", "train", views=True), rows)


def test_a_code_outside_the_codebook_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5")
    with h5py.File(path, "r+") as file:
        file["codes/3x3_of_12x12_uint8/codes"][4] = K
    with pytest.raises(CommandError, match=r"3x3_of_12x12_uint8 holds code 20 of 20"):
        CodesReader(path).codes("3x3_of_12x12_uint8", np.array([4]))


@pytest.mark.parametrize(
    ("column", "value"), [("label", 2), ("label", -2), ("split", 3), ("subject", 9), ("flipped", 2), ("position", 7.5)]
)
def test_an_index_that_points_nowhere_is_named(tmp_path: Path, column: str, value: float) -> None:
    given = columns(12)[column].copy()
    given[1] = value
    reader = CodesReader(write(tmp_path / "codes.h5", **{column: given}))
    with pytest.raises(CommandError, match=rf"index of 3x3_of_12x12_uint8 is damaged \({column} {value}\b"):
        reader.index("3x3_of_12x12_uint8")


def test_a_flipped_bit_in_the_codes_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5")
    with h5py.File(path) as file:
        offset = file["codes/4x5_of_15x18_uint8/codes"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(CommandError, match="is damaged"):
        CodesReader(path).codes("4x5_of_15x18_uint8", np.array([0]))


def test_an_index_that_is_not_the_one_written_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5")
    check_digest(CodesReader(path))
    with h5py.File(path, "a") as file:
        file["codes/4x5_of_15x18_uint8/label"][0] = 1
    with pytest.raises(CommandError, match=f"{path}: damaged, its content has another digest"):
        check_digest(CodesReader(path))


def test_another_file_in_its_place_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5")
    reader = CodesReader(path)
    read_everything(reader)
    elsewhere = pickle.dumps(reader)
    write(tmp_path / "other.h5", weights="cd").replace(path)
    with pytest.raises(CommandError, match=f"{path}: not the file that this began with"):
        read_everything(pickle.loads(elsewhere))


def test_files_that_are_no_codes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such file"):
        _ = CodesReader(tmp_path / "absent.h5").groups
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(CommandError, match="not an HDF5 file"):
        _ = CodesReader(tmp_path / "text.h5").groups
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(CommandError, match="but not codes"):
        _ = CodesReader(tmp_path / "other.h5").groups


GROUP = "codes/3x3_of_12x12_uint8"


CLAIMS: dict[str, Callable[[h5py.File], object]] = {
    "no format": lambda file: file.attrs.pop("format"),
    "a version that is a list": lambda file: file.attrs.__setitem__("version", [1, 1]),
    "a later version": lambda file: file.attrs.__setitem__("version", 2),
    "a format that is no text": lambda file: file.attrs.__setitem__("format", np.void(b"\xff\xfe")),
    "no digest": lambda file: file.attrs.pop("digest"),
    "no K": lambda file: file.attrs.pop("K"),
    "a K that is text": lambda file: file.attrs.__setitem__("K", "many"),
    "a K of 10^12": lambda file: file.attrs.__setitem__("K", 10**12),
    "no codes": lambda file: file.pop("codes"),
    "a group that is a number": lambda file: file["codes"].create_dataset("x", data=1),
    "a group that is a link into another file": lambda file: linked(file, GROUP),
    "codes that are a link into another file": lambda file: linked(file, "codes"),
    "no height": lambda file: file[GROUP].attrs.pop("height"),
    "a height of 0": lambda file: file[GROUP].attrs.__setitem__("height", 0),
    "a missing column": lambda file: file.pop(f"{GROUP}/label"),
    "a short column": lambda file: replaced(file, f"{GROUP}/label", data=np.zeros(5, "<i4")),
    "a column of another type": lambda file: replaced(file, f"{GROUP}/label", data=np.zeros(6)),
    "a column in another file": lambda file: bytes_of_another_file(file, f"{GROUP}/label"),
    "codes in another file": lambda file: view_of_another_file(file, f"{GROUP}/codes"),
    "signed codes": lambda file: replaced(file, f"{GROUP}/codes", data=np.zeros((6, 3, 3), "<i2"), chunks=(1, 3, 3)),
    "codes without checksums": lambda file: replaced(file, f"{GROUP}/codes", data=np.zeros((6, 3, 3), "<u2")),
    "a column without checksums": lambda file: replaced(file, f"{GROUP}/split", data=np.zeros(6, "u1")),
    "codes of two dimensions": lambda file: replaced(file, f"{GROUP}/codes", data=np.zeros((6, 3), "<u2")),
    "another number of foregrounds": lambda file: file[f"{GROUP}/foreground"].resize(7, axis=0),
    "10^12 maps": lambda file: [
        file[f"{GROUP}/{name}"].resize(10**12, axis=0) for name in ("codes", "foreground", *COLUMNS)
    ],
    "names of subjects in another file": lambda file: bytes_of_another_file(file, "subjects/name"),
    "names that are numbers": lambda file: replaced(file, "classes/name", data=np.arange(2)),
    "pictures of other codes": lambda file: replaced(file, "patches", data=np.zeros((3, 4, 4), "<f4")),
    "pictures of 10^10 pixels": lambda file: replaced(
        file, "patches", shape=(K, 10**5, 10**5), dtype="<f4", chunks=(1, 8, 8)
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_file_that_only_claims_to_hold_codes_is_named(claim: str, tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5")
    with h5py.File(path, "r+") as file:
        CLAIMS[claim](file)
    with pytest.raises(CommandError, match=rf"^{path}: "):
        read_everything(CodesReader(path))


def read_everything(reader: CodesReader) -> None:
    for group in reader.groups:
        reader.index(group.name)
        reader.codes(group.name, np.array([0]))
    assert reader.digest
    assert len(reader.subjects) + len(reader.classes) + reader.codebook_size + len(reader.patches) > 0


def test_a_group_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="holds no group 9x9"):
        CodesReader(write(tmp_path / "codes.h5")).index("9x9_of_36x36_uint8")
