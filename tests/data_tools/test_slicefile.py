import fcntl
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.console import CommandError, UsageError
from data_tools.slicefile import SPLITS, SliceReader
from tests.data_tools.slices import Pixels, all_pixels, only_group


@pytest.fixture
def copy(phantom_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_file, tmp_path / "copy.h5"))


def read_first(reader: SliceReader) -> Pixels:
    return reader.read(only_group(reader), 0)


def test_groups_rows_and_subjects(phantom_file: Path) -> None:
    with SliceReader(phantom_file) as reader:
        (group,) = reader.groups
        assert (group.name, group.height, group.width, group.dtype, group.count) == ("32x32_uint8", 32, 32, "uint8", 36)
        parts = [reader.rows(group.name, split) for split in SPLITS]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), reader.rows(group.name, "all"))
        assert len(reader.subjects) == 12
        assert len(reader.digest) == 64


def test_bulk_and_repeated_reads_equal_single_ones(phantom_file: Path) -> None:
    with SliceReader(phantom_file) as reader:
        group = only_group(reader)
        rows = np.array([5, 0, 5, 35])
        expected = np.stack([reader.read(group, row) for row in (5, 0, 5, 35)])
        np.testing.assert_array_equal(reader.read_rows(group, rows), expected)
        again = reader.read(group, 5)
        again[:] = 0  # what is returned is the caller's own
        np.testing.assert_array_equal(reader.read(group, 5), expected[0])


def test_scaled_applies_the_window(phantom_file: Path) -> None:
    with SliceReader(phantom_file) as reader:
        group = only_group(reader)
        np.testing.assert_allclose(reader.scaled(group, 3), reader.read(group, 3) / 255.0, rtol=1e-6)


def test_rows_and_groups_that_are_not_there_are_named(phantom_file: Path) -> None:
    reader = SliceReader(phantom_file)
    with pytest.raises(CommandError, match="no row 36; it has 36"):
        reader.read("32x32_uint8", 36)
    with pytest.raises(CommandError, match="no row -1"):
        reader.read("32x32_uint8", -1)
    with pytest.raises(CommandError, match="no group 8x8_uint8; it has 32x32_uint8"):
        reader.index("8x8_uint8")
    with pytest.raises(UsageError, match="train, validate, test, all"):
        reader.rows("32x32_uint8", "val")


def test_a_reader_pickles_as_its_path(phantom_file: Path) -> None:
    with SliceReader(phantom_file) as reader:
        expected = read_first(reader)
        data = pickle.dumps(reader)
        assert len(data) < 1000
        np.testing.assert_array_equal(read_first(pickle.loads(data)), expected)


def _child(reader: SliceReader, queue: "multiprocessing.Queue[bytes]") -> None:
    queue.put(read_first(reader).tobytes())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_open_reader_works_in_other_processes(method: str, phantom_file: Path) -> None:
    context: Any = multiprocessing.get_context(method)
    with SliceReader(phantom_file) as reader:
        expected = read_first(reader).tobytes()
        queue = context.Queue()
        children = [context.Process(target=_child, args=(reader, queue)) for _ in range(2)]
        for child in children:
            child.start()
        assert [queue.get(timeout=60) for _ in children] == [expected] * 2
        for child in children:
            child.join()
        assert read_first(reader).tobytes() == expected


def test_a_closed_reader_opens_again(phantom_file: Path) -> None:
    reader = SliceReader(phantom_file)
    expected = read_first(reader)
    reader.close()
    np.testing.assert_array_equal(read_first(reader), expected)


def test_reading_needs_no_lock(copy: Path) -> None:
    with copy.open("rb") as other, SliceReader(copy) as reader:
        fcntl.flock(other, fcntl.LOCK_EX)  # whoever asks for a lock is refused
        assert read_first(reader).any()


def test_a_read_only_file_is_read(copy: Path) -> None:
    copy.chmod(0o444)
    assert read_first(SliceReader(copy)).any()


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
        SliceReader(copy).groups  # noqa: B018
    assert str(caught.value).startswith(f"{copy}: ")


def _replace(file: h5py.File, name: str, **kwargs: object) -> None:
    del file[f"images/32x32_uint8/{name}"]
    file.create_dataset(f"images/32x32_uint8/{name}", **kwargs)


def _link(file: h5py.File) -> None:
    del file["images/32x32_uint8/slices"]
    file["images/32x32_uint8/slices"] = h5py.ExternalLink("other.h5", "/x")


CLAIMS: dict[str, Callable[[h5py.File], object]] = {
    "no format": lambda file: file.attrs.pop("format"),
    "another format": lambda file: file.attrs.__setitem__("format", "codes"),
    "a later version": lambda file: file.attrs.__setitem__("version", 99),
    "no compression": lambda file: file.attrs.pop("compression"),
    "no images": lambda file: file.pop("images"),
    "a group that is a number": lambda file: file["images"].create_dataset("x", data=1),
    "a group of another name": lambda file: file.move("images/32x32_uint8", "images/32x33_uint8"),
    "a missing column": lambda file: file.pop("images/32x32_uint8/window"),
    "a short column": lambda file: _replace(file, "label", data=np.zeros(5, "<i4"), fletcher32=True),
    "a column of another type": lambda file: _replace(file, "label", data=np.zeros(36), fletcher32=True),
    "a column without checksums": lambda file: _replace(file, "label", data=np.zeros(36, "<i4")),
    "a link into another file": _link,
    "10^12 slices": lambda file: file["images/32x32_uint8/slices"].resize(10**12, axis=0),
    "slices of 10^10 pixels": lambda file: _replace(
        file, "slices", shape=(36, 10**5, 10**5), dtype="u1", chunks=(1, 8, 8), fletcher32=True
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_file_that_only_claims_to_be_ours_is_named(claim: str, copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        CLAIMS[claim](file)
    with pytest.raises(CommandError, match=str(copy)):
        SliceReader(copy).groups  # noqa: B018


@pytest.mark.parametrize(("column", "value"), [("source", 10**6), ("subject", 10**6), ("split", 3)])
def test_an_index_that_points_nowhere_is_damage(column: str, value: int, copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        file[f"images/32x32_uint8/{column}"][7] = value
    with pytest.raises(CommandError, match="index of 32x32_uint8 is damaged"):
        SliceReader(copy).index("32x32_uint8")


def test_a_damaged_slice_names_file_group_and_row(copy: Path) -> None:
    with h5py.File(copy) as file:
        place = file["images/32x32_uint8/slices"].id.get_chunk_info_by_coord((4, 0, 0)).byte_offset
    data = bytearray(copy.read_bytes())
    data[place + 100] ^= 1
    copy.write_bytes(data)
    with SliceReader(copy) as reader:
        assert len([reader.read("32x32_uint8", row) for row in range(36) if row != 4]) == 35
        for _ in range(2):
            with pytest.raises(CommandError, match=r"copy\.h5: 32x32_uint8 row 4 is damaged"):
                reader.read("32x32_uint8", 4)


def test_the_same_reader_gives_every_slice(phantom_file: Path) -> None:
    with SliceReader(phantom_file) as reader:
        assert len({pixels.tobytes() for pixels in all_pixels(reader)}) == 36
