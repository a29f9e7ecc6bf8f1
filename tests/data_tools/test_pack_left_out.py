import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools.console import CommandError
from tests.data_tools.slices import Pack, Save, all_pixels, brain, report, save_nifti


def test_every_skipped_file_is_one_whole_line_on_stderr(
    save: Save, pack_here: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save("good.png", brain())
    (folder / ("x" * 200 + "\n[red].png")).write_bytes(b"nothing")
    with pack_here(folder):
        pass
    assert "x" * 200 + "\\n[red].png: none of DICOM, PNG, JPEG, TIFF, BMP, NIfTI\n" in capsys.readouterr().err


def test_links_are_followed_once_and_loops_are_named(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    folder = save("real/a.png", brain())
    (tmp_path / "outside").mkdir()
    shutil.move(folder / "real" / "a.png", tmp_path / "outside" / "a.png")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "again").symlink_to(tmp_path / "outside")
    (folder / "real" / "loop").symlink_to(folder)
    (folder / "nowhere.png").symlink_to(tmp_path / "missing")
    with pack_here(folder) as reader:
        assert len(all_pixels(reader)) == 1
        assert {"linked", "real/loop", "nowhere.png"} == set(report(reader))


def test_what_is_no_regular_file_is_named_and_not_waited_for(save: Save, pack_here: Pack) -> None:
    folder = save("a.png", brain())
    os.mkfifo(folder / "pipe.png")
    with pack_here(folder) as reader:
        assert report(reader) == {"pipe.png": "not a regular file"}


def test_strict_fails_after_naming_every_file(
    save: Save, pack_here: Pack, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = save("a.png", brain())
    for number in range(3):
        (folder / f"bad{number}.png").write_bytes(b"x")
    with pytest.raises(CommandError, match="3 files could not be read"):
        pack_here(folder, strict=True)
    assert capsys.readouterr().err.count("bad") == 3
    assert not (tmp_path / "out.h5").exists()


def test_nothing_readable_is_an_error(tmp_path: Path, pack_here: Pack) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(CommandError, match="no slice that can be packed"):
        pack_here(tmp_path / "in")


@pytest.mark.parametrize("name", ["keras_png_slices_seg_train/case_1_slice_0.nii.png"])
def test_segmentations_of_oasis_are_not_images(name: str, save: Save, pack_here: Pack) -> None:
    save(name, brain())
    folder = save("keras_png_slices_train/case_1_slice_0.nii.png", brain(seed=1))
    with pack_here(folder) as reader:
        assert list(report(reader)) == [name]


def test_a_table_of_another_kind_is_named_whatever_its_name(save: Save, pack_here: Pack) -> None:
    folder = save("a.png", brain())
    (folder / "slices.csv").write_text("name,age\n")
    with pack_here(folder) as reader:
        assert report(reader) == {"slices.csv": "none of DICOM, PNG, JPEG, TIFF, BMP, NIfTI"}


def test_volumes_of_a_series_that_are_not_packed_are_named_and_counted(
    save: Save, pack_here: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save("a.png", brain())
    series = np.stack([brain(8, 9, n, "uint16").astype(np.int16) for n in range(6)], -1).reshape(8, 9, 2, 3)
    save_nifti(folder / "bold.nii.gz", series)
    with pack_here(folder, volume=1) as reader:
        assert reader.groups[1].count == 2
        assert report(reader) == {}
        assert json.loads(reader.path.with_suffix(".report.json").read_text())["other_volumes"] == 2
    said = capsys.readouterr()
    assert said.err.count("bold.nii.gz: volume 1 of 3, counted from 0, is packed; --volume takes another\n") == 1
    assert "left out: 0 empty slices; 2 volumes of 4-D files; 0 files" in said.out


def test_a_gzip_bomb_is_named(tmp_path: Path, save: Save, pack_here: Pack) -> None:
    folder = save("a.png", brain())
    (folder / "bomb.nii.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pack_here(folder) as reader:
        assert "holds no NIfTI" in report(reader)["bomb.nii.gz"]
