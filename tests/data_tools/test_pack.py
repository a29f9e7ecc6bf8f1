import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from data_tools.console import CommandError, UsageError
from data_tools.slicefile import SliceReader
from data_tools.staging import publish
from data_tools.verify import verify
from tests.data_tools.dicoms import at, values
from tests.data_tools.slices import Pack, Save, all_pixels, brain, only_group, report, save_nifti


def test_pixels_subjects_splits_and_places_arrive(save: Save, pack_here: Pack) -> None:
    for subject, split in ((1, "train"), (2, "train"), (3, "test")):
        for number in (0, 2, 10):
            folder = save(f"{split}/case_{subject}_slice_{number}.png", brain(seed=100 * subject + number))
    with pack_here(folder) as reader:
        group = only_group(reader)
        assert group == "20x24_uint8"
        index = reader.index(group)
        assert [reader.subjects[n] for n in index.subject] == ["case_3"] * 3 + ["case_1"] * 3 + ["case_2"] * 3
        assert index.slice_index.tolist() == [0, 2, 10] * 3
        assert index.position.tolist() == pytest.approx([0, 0.2, 1] * 3)
        assert index.window.tolist() == [[0, 255]] * 9
        assert not index.noisy_air.any()
        assert index.label.tolist() == [-1] * 9
        np.testing.assert_array_equal(reader.read(group, 2), brain(seed=310))
        assert reader.rows(group, "test").tolist() == [0, 1, 2]
        assert len(reader.rows(group, "train")) == len(reader.rows(group, "validate")) == 3
        assert reader.source(2).path == "test/case_3_slice_10.png"


def test_a_folder_may_hold_a_mix_and_every_shape_keeps_its_size(
    save: Save, pack_here: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a b/it's [1].png", brain(21, 23))
    save("a b/photo.jpg", brain(seed=1))
    save("deep.nii.png", brain(dtype="uint16"))
    folder = save("wrong.jpg", brain(seed=2), format="PNG")
    save_nifti(folder / "v.nii.gz", np.stack([brain(8, 9, n, "uint16").astype(np.int16) for n in range(4)], axis=-1))
    (folder / "dicom").mkdir()
    for number in range(3):
        (folder / "dicom" / f"{number}").write_bytes(at(-number, values(number)))
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.png").touch()
    (folder / "\x1b[31m.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pack_here(folder) as reader:
        shapes = {group.name: group.count for group in reader.groups}
        assert shapes == {"20x24_uint16": 1, "20x24_uint8": 2, "21x23_uint8": 1, "7x9_uint16": 3, "8x9_int16": 4}
        assert reader.index("7x9_uint16").noisy_air.all()
        np.testing.assert_array_equal(reader.read("7x9_uint16", 0), values(2))
        assert set(report(reader)) == {"notes.txt", "empty.png", "\\x1b[31m.png"}
        verify(reader.path)
    said = capsys.readouterr().err
    for path, reason in report(reader).items():
        assert f"{path}: {reason}\n" in said


def test_the_same_input_gives_the_same_bytes_whatever_the_workers(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    for number in range(40):
        folder = save(f"case_{number % 7}_slice_{number}.png", brain(seed=number))
    save("bad.png", brain())
    (folder / "bad.png").write_bytes(b"\x89PNG")
    first = pack_here(folder, output="a.h5", workers=1)
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    second = pack_here(moved, output="sub/b.h5", workers=2)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.path.with_suffix(".report.json").read_bytes() == second.path.with_suffix(".report.json").read_bytes()
    assert first.digest == second.digest


def test_the_digest_is_of_the_content_not_of_names(save: Save, pack_here: Pack) -> None:
    folder = save("scan1.png", brain())
    before = pack_here(folder, output="a.h5").digest
    (folder / "scan1.png").rename(folder / "other1.png")
    assert pack_here(folder, output="b.h5").digest == before
    save("other1.png", brain(seed=1))
    assert pack_here(folder, output="c.h5").digest != before


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_pixels_are_the_same_pixels(compression: str, save: Save, pack_here: Pack) -> None:
    folder = save("a_slice_1.png", np.kron(brain(), np.ones((4, 4), np.uint8)))
    save("b_slice_1.png", brain(dtype="uint16"))
    plain = pack_here(folder, output="plain.h5")
    small = pack_here(folder, output="small.h5", compression=compression)
    for a, b in zip(all_pixels(plain), all_pixels(small), strict=True):
        np.testing.assert_array_equal(a, b)
    assert small.digest == plain.digest
    verify(small.path)


def test_classes_come_from_the_table(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    for number in range(3):
        folder = save(f"x{number}.png", brain(seed=number))
    (tmp_path / "t.csv").write_text("path,subject,class\nx0.png,A,well\nx1.png,B,ill\n")
    with pack_here(folder, subjects=tmp_path / "t.csv") as reader:
        assert reader.classes == ["ill", "well"]
        assert reader.index(only_group(reader)).label.tolist() == [1, 0, -1]
        assert reader.subjects == ["A", "B", "x2"]
        assert reader.attributes["subject_rules"] == {"file name": 1, "subjects file": 2}


def test_several_sources_are_told_apart_by_what_they_have_not_in_common(save: Save, pack_here: Pack) -> None:
    save("train/a.png", brain())
    folder = save("test/b.png", brain(seed=1))
    with pack_here(folder / "train", folder / "test") as reader:
        assert [reader.source(number).path for number in range(2)] == ["test/b.png", "train/a.png"]
        assert len(reader.rows(only_group(reader), "test")) == 1


def test_what_exists_is_not_overwritten_unasked(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    (tmp_path / "out.h5").write_text("precious")
    with pytest.raises(UsageError, match="--overwrite"):
        pack_here(save("a.png", brain()), overwrite=False)
    assert (tmp_path / "out.h5").read_text() == "precious"


def test_a_report_of_somebody_else_is_not_replaced(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    folder = save("a.png", brain())
    (tmp_path / "x.report.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"x\.report\.json exists, where the report would go; give another"):
        pack_here(folder, output="x.h5", overwrite=False)
    assert not (tmp_path / "x.h5").exists()
    with pack_here(folder, output="y.h5") as packed:
        packed.path.unlink()  # and leaves the report
    pack_here(folder, output="y.h5", overwrite=False).close()
    pack_here(folder, output="y.v2").close()
    assert {"y.report.json", "y.v2.report.json"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("last", [0, 1])
def test_no_report_of_other_data_lies_beside_a_file_at_any_moment(
    last: int, save: Save, pack_here: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save("a.png", brain())
    digests = [pack_here(folder).digest]
    save("b.png", brain(seed=1))
    digests.append(pack_here(folder, output="other.h5").digest)
    put: list[Path] = []

    def put_some(made: Path, output: Path) -> None:
        if len(put) == last:
            raise OSError("killed here")
        put.append(output)
        publish(made, output)

    monkeypatch.setattr("data_tools.pack.publish", put_some)
    with pytest.raises(CommandError, match="killed here"):
        pack_here(folder)
    with SliceReader(tmp_path / "out.h5") as reader:
        assert reader.digest == digests[last]
    assert not (tmp_path / "out.report.json").exists()


def test_a_missing_source_is_a_usage_error(tmp_path: Path, pack_here: Pack) -> None:
    with pytest.raises(UsageError, match="no such file"):
        pack_here(tmp_path / "nowhere")


def test_the_file_says_nothing_of_the_machine(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    reader = pack_here(save("a.png", brain()), output="secret_name.h5")
    content = reader.path.read_bytes() + reader.path.with_suffix(".report.json").read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"secret_name" not in content


def test_a_picture_is_not_replaced_by_a_packed_file(save: Save, pack_here: Pack) -> None:
    folder = save("a.png", brain())
    before = (folder / "a.png").read_bytes()
    with pytest.raises(UsageError, match=r"a\.png is a picture or volume, which --overwrite leaves alone"):
        pack_here(folder, output=str(folder / "a.png"))
    assert (folder / "a.png").read_bytes() == before


def test_nobody_listening_is_no_failure_to_pack(save: Save, tmp_path: Path) -> None:
    folder = save("a.png", brain())
    command = [sys.executable, "-m", "data_tools", "pack", str(folder), "--output", str(tmp_path / "a.h5")]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writing)
    assert "could not be written" not in done.stderr
    with SliceReader(tmp_path / "a.h5") as reader:
        assert reader.source_count == 1


def test_every_dataset_has_a_checksum(save: Save, pack_here: Pack) -> None:
    with h5py.File(pack_here(save("a.png", brain())).path) as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(found) == 9 + 5 + 2
        assert all(file[name].fletcher32 for name in found)


def test_a_file_is_known_by_its_content_whatever_its_suffix(pack_here: Pack, tmp_path: Path) -> None:
    """DICOM files called .png are one patient's series, on one side of the split; an image called .dcm is an image."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        content = at(float(12 - number), values(number), PatientID="ONE", SOPInstanceUID=f"1.4.{number + 1}")
        (folder / f"IM_{number:03}.png").write_bytes(content)
    for patient in range(6):
        about = {"PatientID": f"P{patient}", "SeriesInstanceUID": f"1.3.{patient + 1}"}
        (folder / f"other{patient}.dcm").write_bytes(at(0.0, values(100 + patient), **about))
    stream = io.BytesIO()
    Image.fromarray(brain()).save(stream, "png")
    (folder / "scan.dcm").write_bytes(stream.getvalue())
    reader = pack_here(folder)
    assert report(reader) == {}
    index = reader.index("7x9_uint16")
    one = index.subject == reader.subjects.index("ONE")
    assert one.sum() == 12
    assert len(set(index.split[one])) == 1
    assert len(set(index.position[one])) == 12, "sorted by place"
    assert reader.group("20x24_uint8").count == 1
