import fcntl
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.console import CommandError, UsageError
from data_tools.pack import pack
from data_tools.phantom import phantom
from data_tools.settings import PackSettings, PhantomSettings
from data_tools.slicefile import SPLITS, SliceReader
from tests.data_tools.slices import Pack, Save, all_pixels, brain, only_group, read_first


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
        expected = np.stack([reader.read(group, row) for row in (5, 6, 7)])
        np.testing.assert_array_equal(reader.read_block(group, 5, 8), expected)
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


def test_an_index_of_another_digest_is_named(copy: Path) -> None:
    SliceReader(copy).check_digest()
    with h5py.File(copy, "a") as file:
        file["images/32x32_uint8/split"][:] = 0
    with pytest.raises(CommandError, match=f"{copy}: the index is damaged .not the one that was packed"):
        SliceReader(copy).check_digest()


def test_pixels_that_only_hdf5s_checksum_lets_through_are_named(copy: Path) -> None:
    with h5py.File(copy) as file:
        chunk = file["images/32x32_uint8/slices"].id.get_chunk_info_by_coord((3, 0, 0))
    data = bytearray(copy.read_bytes())
    first = data.index(b"\0\0", chunk.byte_offset) & ~1
    assert data[first : first + 2] == b"\0\0"
    data[first : first + 2] = b"\xff\xff"  # as many, modulo 65535
    copy.write_bytes(data)
    with h5py.File(copy) as file:
        assert file["images/32x32_uint8/slices"][3].any()
    reader = SliceReader(copy)
    for _ in range(2):
        with pytest.raises(CommandError, match=r"row 3 is damaged \(its pixels are not those that were packed"):
            reader.read("32x32_uint8", 3)
    assert reader.read("32x32_uint8", 4).any()


def test_pixels_that_change_while_they_are_used_are_named(copy: Path) -> None:
    with h5py.File(copy) as file:
        chunk = file["images/32x32_uint8/slices"].id.get_chunk_info_by_coord((3, 0, 0))
    reader = SliceReader(copy)
    first = reader.read("32x32_uint8", 3)
    assert np.array_equal(reader.read("32x32_uint8", 3), first)
    with copy.open("r+b") as stream:
        stream.seek(chunk.byte_offset + 500)
        stream.write(b"\x55")
    with pytest.raises(CommandError, match=r"row 3 is damaged \(its pixels changed since this process read them first"):
        reader.read("32x32_uint8", 3)
    assert reader.read("32x32_uint8", 4).any()


def test_another_file_in_its_place_is_named(copy: Path, tmp_path: Path) -> None:
    reader = SliceReader(copy)
    read_first(reader)
    digest, elsewhere = reader.digest, pickle.dumps(reader)
    phantom(PhantomSettings(tmp_path / "others", subjects=12, slices=3, size=32, seed=9))
    pack(PackSettings((tmp_path / "others",), copy, workers=1, overwrite=True))
    with pytest.raises(CommandError, match=f"{copy}: not the file that this began with"):
        read_first(pickle.loads(elsewhere))
    reader.close()
    with pytest.raises(CommandError, match=f"put {digest} back"):
        read_first(reader)
    read_first(SliceReader(copy))


def test_reading_needs_no_lock(copy: Path) -> None:
    with copy.open("rb") as other, SliceReader(copy) as reader:
        fcntl.flock(other, fcntl.LOCK_EX)  # whoever asks for a lock is refused
        assert read_first(reader).any()


def test_a_read_only_file_is_read(copy: Path) -> None:
    copy.chmod(0o444)
    assert read_first(SliceReader(copy)).any()


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_every_kind_is_read_again_as_it_was(compression: str, dtype: str, save: Save, pack_here: Pack) -> None:
    for seed in range(3):  # 21 x 25: no whole number of words
        source = save(f"{seed}.tif", brain(21, 25, seed, dtype=dtype))
    with pack_here(source, compression=compression) as reader:
        (group,) = reader.groups
        assert group.dtype == dtype
        first, again = all_pixels(reader), all_pixels(reader)
        np.testing.assert_array_equal(again, first)
        again[0][:] = 0  # what is returned is the caller's own
        np.testing.assert_array_equal(all_pixels(reader), first)


def test_threads_read_what_one_reads(phantom_file: Path) -> None:
    with SliceReader(phantom_file) as reader, ThreadPoolExecutor(4) as pool:
        group, rows = only_group(reader), list(range(36)) * 20
        read = list(pool.map(lambda row: reader.read(group, row), rows))
        expected = reader.read_block(group, 0, 36)
        assert all(np.array_equal(pixels, expected[row]) for pixels, row in zip(read, rows, strict=True))


def test_a_file_cut_short_while_it_is_used_is_named(copy: Path) -> None:
    with h5py.File(copy) as file:
        chunk = file["images/32x32_uint8/slices"].id.get_chunk_info_by_coord((3, 0, 0))
    reader = SliceReader(copy)
    for _ in range(2):
        reader.read("32x32_uint8", 3)
    with copy.open("r+b") as stream:
        stream.truncate(chunk.byte_offset + 100)
    with pytest.raises(CommandError, match="row 3 is damaged"):
        reader.read("32x32_uint8", 3)


def test_a_file_that_is_replaced_while_it_is_used_is_read_on(copy: Path, tmp_path: Path) -> None:
    reader = SliceReader(copy)
    first = read_first(reader)
    (tmp_path / "other").write_bytes(b"another file")
    (tmp_path / "other").replace(copy)
    np.testing.assert_array_equal(read_first(reader), first)


def test_a_chunk_that_is_not_stored_as_the_header_says_is_named(copy: Path) -> None:
    with h5py.File(copy, "a") as file:
        slices = file["images/32x32_uint8/slices"]
        slices.id.write_direct_chunk((3, 0, 0), slices[3].tobytes(), filter_mask=1)  # without its checksum
    reader = SliceReader(copy)
    assert reader.read("32x32_uint8", 3).any()
    with pytest.raises(CommandError, match=r"row 3 is damaged \(not stored as its header says"):
        reader.read("32x32_uint8", 3)


def test_a_file_behind_a_user_block_is_read(copy: Path, tmp_path: Path) -> None:
    behind = tmp_path / "behind.h5"
    with h5py.File(behind, "w", userblock_size=512, libver=("v110", "v110")) as file, h5py.File(copy) as source:
        file.attrs.update(source.attrs)
        for name in source:
            source.copy(name, file)
    reader = SliceReader(behind)
    np.testing.assert_array_equal(read_first(reader), read_first(reader))
