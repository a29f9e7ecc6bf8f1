import re
from pathlib import Path

import pytest

from data_tools.console import CommandError, UsageError
from data_tools.splits import draw, split_of_folder
from data_tools.subjects import SubjectRules, SubjectTable, compiled_pattern, volume_of


def subject(path: str, pattern: str | None = None, **dicom: str) -> tuple[str, str]:
    owner = SubjectRules(None, compiled_pattern(pattern)).owner(path, **dicom)
    return owner.subject, owner.rule


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("keras_png_slices_train/case_001_slice_0.nii.png", ("case_001", "known name")),
        ("sub-07/ses-1/anat/sub-07_ses-1_T1w.nii.gz", ("sub-07", "known name")),
        ("sub-07/T1.nii", ("sub-07", "known name")),
        ("train/meningioma_0258.jpg", ("meningioma_0258", "file name")),
        ("OASIS-TRT-20-13_slice121.nii.gz", ("OASIS-TRT-20-13", "file name")),
        ("a/showcase_12.png", ("showcase_12", "file name")),
        ("p1/slice_3.png", ("p1", "file name")),
        ("slice_3.png", ("slice_3.png", "file name")),
        ("a/odd\x1bname\udcff.png", ("odd\\x1bname\\udcff", "file name")),
    ],
)
def test_subjects_by_name(path: str, expected: tuple[str, str]) -> None:
    assert subject(path) == expected


def test_a_pattern_goes_before_known_names_and_dicom() -> None:
    assert subject("site2/case_001.png", r"^(site\d)", patient="p") == ("site2", "subject pattern")
    assert subject("site2/case_001.png", r"site\d") == ("site2", "subject pattern")
    assert subject("other/case_001.png", r"^(site\d)") == ("case_001", "known name")


def test_dicom_says_the_subject_where_no_name_does() -> None:
    assert subject("x.dcm", patient="p") == ("p", "patient id")
    assert subject("x.dcm", series="1.2") == ("1.2", "series")
    assert subject("case_7/x.dcm", patient="p") == ("case_7", "known name")


def test_a_pattern_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        compiled_pattern("(")


def test_a_table_goes_before_everything_and_names_classes(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('path,subject,class\ntrain/a[1].png,S1,ill\n"b, c.png",S2,\n*/case_001*,S3,well\n*,S4,well\n')
    rules = SubjectRules(SubjectTable.read(table), compiled_pattern("x(.)"))
    found = [rules.owner(path) for path in ("train/a[1].png", "d/b, c.png", "x/case_001_slice_0.png", "xy")]
    assert [(owner.subject, owner.label) for owner in found] == [
        ("S1", "ill"),
        ("S2", None),
        ("S3", "well"),
        ("S4", "well"),
    ]
    assert SubjectTable.read(table).classes == ["ill", "well"]


def test_a_path_that_no_row_fits_goes_to_the_next_rule(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a.png,S1\n")
    owner = SubjectRules(SubjectTable.read(tmp_path / "t.csv"), None).owner("case_5.png")
    assert (owner.subject, owner.rule, owner.label) == ("case_5", "known name", None)


def test_a_rule_that_fits_no_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("/abs/a.png,S1\n")
    table, pattern = SubjectTable.read(tmp_path / "t.csv"), re.compile("none(.)")
    paths = "fits no file; their paths are like b/case_5.png"
    for rules, message in (
        (SubjectRules(table, None), f"--subjects: {paths}, and a row like /abs/a.png"),
        (SubjectRules(None, pattern), f"--subject-pattern: {paths}"),
    ):
        rules.owner("b/case_5.png")
        with pytest.raises(UsageError, match=f"^{message}$"):
            rules.check()


def test_a_pattern_behind_a_table_that_fits_everything_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("*.png,S1\n")
    rules = SubjectRules(SubjectTable.read(tmp_path / "t.csv"), re.compile("none(.)"))
    rules.owner("a.png")
    rules.check()
    assert list(rules.complaints()) == []


def test_rows_and_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a.png,S1\nold.png,S2\n")
    rules = SubjectRules(SubjectTable.read(tmp_path / "t.csv"), None)
    for path in ("a.png", "b.png", "c.png"):
        rules.owner(path)
    rules.check()
    partly = SubjectRules(None, re.compile("^a"))
    for path in ("a.png", "b.png"):
        partly.owner(path)
    (complaint,) = partly.complaints()
    assert complaint == "--subject-pattern: does not fit all files, e.g. b.png; other rules give their subjects"
    assert list(rules.complaints()) == [
        "--subjects: 1 row fits no file, e.g. old.png",
        "--subjects: no row fits 2 files, e.g. b.png; other rules give their subjects",
    ]


@pytest.mark.parametrize("content", [b"a.png\n", b"a.png,\n", b"a,b,c,d\n", b"\xff\xfe"])
def test_a_table_that_is_none_names_the_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(CommandError, match=r"line 1 is not|not UTF-8"):
        SubjectTable.read(tmp_path / "t.csv")


def test_a_table_that_csv_cannot_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"a.png,{'x' * 200_000}\n")
    with pytest.raises(UsageError, match=r"t\.csv: not a CSV of path glob, subject\[, class\] \(field larger"):
        SubjectTable.read(tmp_path / "t.csv")


def test_a_table_that_is_missing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        SubjectTable.read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("path", "volume", "number"),
    [
        ("a/case_1_slice_12.png", "a/case_1.png", 12),
        ("a/x_slice118.nii.gz", "a/x.nii.gz", 118),
        ("a/SLICE_3.png", "a/.png", 3),
        ("slice_3", "", 3),
        ("a/x_12.png", "a/x_12.png", None),
        ("a/x_slice_99999999999999999999.png", "a/x_slice_99999999999999999999.png", None),
    ],
)
def test_names_tell_the_volume_and_the_slice(path: str, volume: str, number: int | None) -> None:
    assert volume_of(path) == (volume, number)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/a.png", "train"),
        ("x/Test/a.png", "test"),
        ("val/a.png", "validate"),
        ("validation/a.png", "validate"),
        ("keras_png_slices_validate/a.png", "validate"),
        ("train/test/a.png", "train"),
        ("Training/a.png", "train"),
        ("x/Testing/a.png", "test"),
        ("Valid/a.png", "validate"),
        ("training/val/a.png", "validate"),
        ("training_set/a.png", None),
        ("trainings/a.png", None),
        ("invalid/a.png", None),
        ("test.png", None),
    ],
)
def test_folders_tell_the_split(path: str, split: str | None) -> None:
    assert split_of_folder(path) == split


def test_the_draw_of_a_subject_never_changes() -> None:
    assert draw("case_001") == pytest.approx(0.295467, abs=1e-6)
    assert draw("sub-01") != draw("sub-02")
    assert 0.4 < sum(draw(f"s{n}") for n in range(1000)) / 1000 < 0.6
