from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import h5py
import pytest

from data_tools.console import CommandError
from data_tools.slicefile import SliceReader
from tests.phantoms import write_packed
from vqvae_dist.data.scratch import dropping_damaged, on_scratch


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies go."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    return tmp_path / "scratch" / f"vqvae-dist-{os.getuid()}"


def copied(packed: Path) -> Path:
    return Path(on_scratch(str(packed), SliceReader(packed).digest))


def test_a_copy_is_made_once_and_whole_in_a_folder_of_the_user(packed: Path, scratch: Path) -> None:
    copy = copied(packed)
    assert copy.parent == scratch
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert copy.read_bytes() == packed.read_bytes()
    written = copy.stat().st_mtime_ns
    assert copied(packed) == copy
    assert copy.stat().st_mtime_ns == written
    assert list(scratch.iterdir()) == [copy]


@pytest.mark.parametrize("wrong", ["other data", "cut", "longer", "no HDF5"])
def test_what_is_no_copy_is_replaced(wrong: str, packed: Path, scratch: Path, tmp_path: Path) -> None:
    copy = copied(packed)
    if wrong == "other data":
        write_packed(copy, subjects=["train", "validate"])
    content = {"cut": copy.read_bytes()[:-1], "longer": copy.read_bytes() + b"x", "no HDF5": b"x"}
    if wrong in content:
        copy.write_bytes(content[wrong])
    assert copied(packed).read_bytes() == packed.read_bytes()


def test_a_folder_that_leads_elsewhere_is_not_used(packed: Path, scratch: Path, tmp_path: Path) -> None:
    scratch.symlink_to(tmp_path)
    with pytest.raises(CommandError, match=rf"^{scratch}: not a folder of your own"):
        copied(packed)


def test_a_full_disk_is_named_and_nothing_is_left(packed: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(CommandError, match=rf"^{scratch}: {packed} could not be copied there \(No space left"):
        copied(packed)
    assert not list(scratch.iterdir())


def test_a_file_that_changes_meanwhile_is_not_used(packed: Path, scratch: Path) -> None:
    with pytest.raises(CommandError, match="changed while it was copied"):
        on_scratch(str(packed), "d" * 64)
    assert not list(scratch.iterdir())


def test_a_damaged_copy_is_removed_so_that_the_next_start_copies_again(
    packed: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, digest = copied(packed), SliceReader(packed).digest
    reader = SliceReader(copy)
    (group,) = reader.groups
    with h5py.File(copy, locking=False) as file:
        place = file[f"images/{group.name}/slices"].id.get_chunk_info_by_coord((0, 0, 0)).byte_offset
    reader.close()
    with copy.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\x55\xaa")
    with pytest.raises(CommandError, match=f"{copy}.*row 0 is damaged"), dropping_damaged(str(packed), digest):
        reader.read(group.name, 0)
    assert f"{copy}: this copy of {packed} is removed; the same command copies it again" in capsys.readouterr().err
    assert copied(packed).read_bytes() == packed.read_bytes()


def test_a_whole_copy_stays_whatever_else_goes_wrong(packed: Path, scratch: Path) -> None:
    copy, digest = copied(packed), SliceReader(packed).digest
    with pytest.raises(CommandError), dropping_damaged(str(packed), digest):
        raise CommandError(f"{packed}: something else")
    assert copy.is_file()
