"""Folders of slices: what is exported, and drawn, is whole under its name or not there."""

import csv
from pathlib import Path

import numpy as np
import pytest

from data_tools.console import CommandError, UsageError
from data_tools.export import export
from data_tools.phantom import phantom
from data_tools.settings import PhantomSettings
from data_tools.slicefile import SliceReader
from tests.data_tools.slices import Pack, Save, brain, report, save_nifti
from tests.small_disk import on_small_disk


def test_export_gives_the_pixels_back_and_packs_to_the_same(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    save("train/case_1_slice_0.png", brain())
    save("train/.. odd%/name.png", brain(seed=1))
    folder = save("test/deep_slice_3.png", brain(dtype="uint16"))
    save_nifti(folder / "train/v.nii.gz", np.stack([brain(8, 9, n, "uint16") for n in range(3)], -1).astype(np.float32))
    save_nifti(folder / "w.nii.gz", np.stack([brain(8, 9, n, "uint16") for n in range(3, 5)], -1).astype(np.int16))
    first = pack_here(folder)
    export(first.path, tmp_path / "exported")
    owners = tmp_path / "exported" / "subjects.csv"
    second = pack_here(tmp_path / "exported", output="again.h5", subjects=owners, strict=True)
    assert report(second) == {}, "the exporter's own tables are no files that could not be read"

    def content(reader: SliceReader) -> set[tuple[str, str, int, bytes]]:
        return {
            (
                group.name,
                reader.subjects[index.subject[row]],
                int(index.split[row]),
                reader.read(group.name, row).tobytes(),
            )
            for group in reader.groups
            for index in [reader.index(group.name)]
            for row in range(group.count)
        }

    assert content(first) == content(second)
    rows = list(csv.DictReader((tmp_path / "exported" / "slices.csv").open()))
    assert {row["source"] for row in rows} >= {"train/v.nii.gz", "test/deep_slice_3.png"}
    with pytest.raises(UsageError, match="not an empty folder"):
        export(first.path, tmp_path / "exported")


def test_a_folder_of_slices_is_whole_or_not_there(phantom_file: Path, tmp_path: Path) -> None:
    with on_small_disk(tmp_path, "40k") as disk:
        reason = f"{disk / 'out'}: could not be written .No space left on device"
        with pytest.raises(CommandError, match=reason):
            export(phantom_file, disk / "out")
        with pytest.raises(CommandError, match=reason):
            phantom(PhantomSettings(disk / "out", subjects=40))
        assert list(disk.iterdir()) == []


def test_an_empty_folder_is_filled(phantom_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / ".staging-slices-left").mkdir(parents=True)
    export(phantom_file, tmp_path / "empty")
    assert {"slices.csv", "subjects.csv", "train"} <= {path.name for path in (tmp_path / "empty").iterdir()}


class Killed(BaseException):
    """Stands for a kill."""


def kill_after(renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many renames of folders and files happen, and no more."""
    real = Path.replace
    done: list[Path] = []

    def replace(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise Killed
        done.append(target)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_an_empty_folder_is_replaced_as_a_whole(
    phantom_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("real")
    with monkeypatch.context() as patched:
        kill_after(0, patched)
        with pytest.raises(Killed):
            export(phantom_file, tmp_path / "link")
    assert list((tmp_path / "real").iterdir()) == []
    with monkeypatch.context() as patched:
        kill_after(1, patched)  # one rename is all that it takes
        export(phantom_file, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "slices.csv").exists()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o750
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


@pytest.mark.parametrize("renames", range(5))
def test_tables_come_last_to_a_folder_that_must_stay(
    renames: int, phantom_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    kill_after(renames, monkeypatch)
    with pytest.raises(Killed):
        export(phantom_file, Path())
    names = {path.name for path in Path().iterdir()}
    assert names <= {"train", "validate", "test", "slices.csv", "subjects.csv"}
    assert len(names) == renames
    assert {"train", "validate", "test"} <= names or not any(name.endswith(".csv") for name in names)
