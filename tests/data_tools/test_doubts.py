"""What packing says of subjects that the names of files tell badly, and of where splits come from."""

from collections.abc import Callable

import numpy as np
import pytest

from data_tools.doubts import example_pattern
from data_tools.info import info
from tests.data_tools.slices import Pack, Save, brain, save_nifti

Warnings = Callable[..., list[str]]


@pytest.fixture
def warnings(save: Save, pack_here: Pack, capsys: pytest.CaptureFixture[str]) -> Warnings:
    """Pack pictures of these names; returns the warnings."""

    def warnings(*names: str) -> list[str]:
        for seed, name in enumerate(names):
            folder = save(name, brain(8, 9, seed=seed))
        pack_here(folder).close()
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]

    return warnings


def numbered(*folders: str, name: str = "{:03}.png", count: int = 6) -> list[str]:
    return [f"{folder}/{name.format(number)}" for folder in folders for number in range(count)]


@pytest.mark.parametrize("name", ["{:03}.png", "img{:03}.png"])
def test_subjects_whose_files_lie_in_several_folders_are_one_warning(name: str, warnings: Warnings) -> None:
    (said,) = warnings(*numbered(*(f"patient{n}" for n in range(4)), name=name))
    one, other = (f"patient{n}/{name.format(0)}" for n in range(2))
    assert f"6 subjects such as {one[9:-4]!r} have, by the names of files, slices in several folders" in said
    assert f"({one}, {other})" in said
    assert "--subjects, or with --subject-pattern like '^([^/]+)/'" in said


@pytest.mark.parametrize("name", ["{}/{:08x}.png", "{0}_{1:03}.png"])
def test_pictures_that_are_each_a_subject_are_one_warning(name: str, warnings: Warnings) -> None:
    (said,) = warnings(*(name.format(f"P{n % 4}", 977 * n) for n in range(12)))
    assert f"12 of 12 pictures are, by their names, each a subject of its own (e.g. {name.format('P0', 0)})" in said
    pattern = "^([^/]+)/" if "/" in name else "([^/]+)_[^/]*$"
    assert f"--subject-pattern like '{pattern}'" in said


def test_one_subject_of_a_folder_below_the_patients_is_one_warning(warnings: Warnings) -> None:
    (said,) = warnings(*numbered(*(f"Patient{n}/T1" for n in range(4)), name="slice{:03}.png"))
    assert said.startswith(
        "warning: no subject is in validate and test: subject 'T1' has, by the names of files, slices"
    )
    assert said.endswith("--subject-pattern like '^([^/]+)/'")


def test_too_few_subjects_is_one_warning_that_says_what_to_do(warnings: Warnings) -> None:
    (said,) = warnings(*numbered("p1", name="slice_{}.png"))
    assert said.startswith("warning: no subject is in validate and test: there are too few, or its share is 0; ")
    assert "--subject-pattern like '^([^/]+)/'" in said


def test_folders_of_splits_are_no_several_folders(warnings: Warnings) -> None:
    """The train folder is named in two ways, and both halves of a subject are in it."""
    assert warnings(*numbered("train", "Training", name="a{}_slice_1.png"), *numbered("test", name="b{}.png")) == []


@pytest.mark.parametrize("name", ["slice_{}.png", "sub-{}_x.png"])
def test_subjects_that_are_well_named_are_no_warning(name: str, warnings: Warnings) -> None:
    assert warnings(*numbered(*(f"p{n}" for n in range(4)), name=name)) == []


def test_a_volume_a_subject_is_no_warning(save: Save, warnings: Warnings) -> None:
    folder = save("odd_slice_1.png", brain())
    for number in range(5):
        voxels = np.stack([brain(8, 9, 10 * number + n, "uint16").astype(np.int16) for n in range(3)], -1)
        save_nifti(folder / f"scan{number}.nii.gz", voxels)
    assert warnings("odd_slice_2.png") == []


def test_nothing_left_to_train_on_says_why(warnings: Warnings) -> None:
    said = warnings(*numbered("Testing", name="case_{}.png"))
    assert "no subject is in train: folders put all in other splits" in said[-1]


@pytest.mark.parametrize(
    ("one", "other", "pattern"),
    [
        ("P1/a.png", "P2/a.png", "^([^/]+)/"),
        ("train/P1/a.png", "train/P2/a.png", "^[^/]+/([^/]+)/"),
        ("test/P1/a.png", "Training/P2/a.png", "^[^/]+/([^/]+)/"),
        ("all/P1_1.png", "all/P2_1.png", "([^/]+)_[^/]*$"),
    ],
)
def test_the_example_is_of_what_differs(one: str, other: str, pattern: str) -> None:
    assert example_pattern(one, other) == pattern


def test_pack_and_info_say_where_splits_come_from(
    save: Save, pack_here: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        save(f"Training/case_{number}.png", brain(seed=number))
        save(f"more/case_1{number}.png", brain(seed=10 + number))
    folder = save("Testing/case_5.png", brain(seed=5))
    with pack_here(folder) as reader:
        rules = reader.attributes["split_rules"]
        drawn, rest = rules["validate"]["drawn"], rules["train"]["the rest"]
        assert rules == {
            "train": {"folder": 8 - drawn - rest, "the rest": rest},
            "validate": {"drawn": drawn},
            "test": {"folder": 1},
        }
        line = f"  splits by: train folder ({8 - drawn - rest}) and the rest ({rest}), validate drawn ({drawn}), test"
        assert line in capsys.readouterr().out
        info(reader.path, as_json=False)
        assert line in capsys.readouterr().out
