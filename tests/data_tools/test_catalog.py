from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from data_tools.catalog import Catalog
from data_tools.console import CommandError
from data_tools.slice_format import SPLITS
from data_tools.splits import draw
from data_tools.subjects import Owner

SHARES = (0.8, 0.1, 0.1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    yield catalog
    catalog.close()


def splits(
    catalog: Catalog, given: Mapping[str, str | None], shares: tuple[float, float, float] = SHARES
) -> dict[str, str]:
    for name, split in given.items():
        catalog.add_subject(Owner(name, "file name"), split, f"{split}/{name}")
    numbers = catalog.assign_splits(shares)
    return dict(zip(catalog.subject_names(), (SPLITS[number] for number in numbers), strict=True))


def members(found: dict[str, str], split: str) -> set[str]:
    return {name for name, where in found.items() if where == split}


def test_validate_is_drawn_from_training_by_hash_and_test_is_left_alone(catalog: Catalog) -> None:
    given = {f"s{n}": "test" if n < 20 else "train" for n in range(200)}
    found = splits(catalog, given)
    assert members(found, "test") == {f"s{n}" for n in range(20)}
    assert members(found, "validate") == {f"s{n}" for n in range(20, 200) if draw(f"s{n}") < 0.1}


def test_without_folders_both_are_drawn_and_apart(catalog: Catalog) -> None:
    found = splits(catalog, {f"s{n}": None for n in range(500)}, (0.5, 0.2, 0.3))
    assert members(found, "validate") == {name for name in found if draw(name) < 0.2}
    assert members(found, "test") == {name for name in found if 0.2 <= draw(name) < 0.5}


def test_a_subject_keeps_its_split_when_others_come(tmp_path: Path) -> None:
    found = []
    for count in (100, 150):
        catalog = Catalog(tmp_path / f"{count}.sqlite")
        found.append(splits(catalog, {f"s{n}": None for n in range(count)}))
        catalog.close()
    assert found[0].items() <= found[1].items()


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1))])
def test_few_subjects_leave_splits_empty_and_train_never(count: int, sizes: tuple[int, ...], catalog: Catalog) -> None:
    found = splits(catalog, {f"s{n}": None for n in range(count)})
    assert tuple(len(members(found, split)) for split in SPLITS) == sizes


def test_where_no_hash_is_low_enough_the_lowest_is_taken(catalog: Catalog) -> None:
    names = [name for name in (f"s{n}" for n in range(100)) if draw(name) > 0.5][:5]
    found = splits(catalog, dict.fromkeys(names))
    first, second, *_ = sorted(names, key=draw)
    assert members(found, "validate") == {first}
    assert members(found, "test") == {second}


def test_a_share_of_zero_leaves_a_split_empty(catalog: Catalog) -> None:
    found = splits(catalog, {f"s{n}": None for n in range(50)}, (0.9, 0.1, 0.0))
    assert not members(found, "test")
    assert members(found, "validate")


def test_nothing_is_drawn_from_a_test_folder_alone(catalog: Catalog) -> None:
    assert set(splits(catalog, {"a": "test", "b": "test"}).values()) == {"test"}


def test_one_subject_in_two_folders_is_an_error_that_names_both(catalog: Catalog) -> None:
    catalog.add_subject(Owner("a", "file name"), "train", "train/a.png")
    with pytest.raises(CommandError, match=r"subject 'a'.*train/a.png.*test/a.png"):
        catalog.add_subject(Owner("a", "file name"), "test", "test/a.png")


def test_a_subject_outside_the_folders_goes_where_its_other_files_are(catalog: Catalog) -> None:
    first = catalog.add_subject(Owner("a", "file name"), None, "a.png")
    assert catalog.add_subject(Owner("a", "file name"), "test", "test/a.png") == first
    assert SPLITS[catalog.assign_splits(SHARES)[0]] == "test"


def test_files_come_sorted_with_the_range_of_their_volume(catalog: Catalog) -> None:
    for number in (10, 9, 2):
        catalog.add_file(f"a_slice_{number}.png", size=1, volume="a.png", number=number, is_dicom=False)
    catalog.add_file("a_slice_2.png", size=1, volume="a.png", number=2, is_dicom=False)
    assert [(row.number, row.first, row.last) for row in catalog.files()] == [(2, 2, 10), (9, 2, 10), (10, 2, 10)]


def test_file_names_that_are_no_text_survive(catalog: Catalog) -> None:
    catalog.add_file("\udcff.png", size=1, volume="\udcff.png", number=None, is_dicom=False)
    assert [row.path for row in catalog.files()] == ["\udcff.png"]


def test_patients_of_several_studies_are_told_apart_by_series(catalog: Catalog) -> None:
    for path, patient, study in (("a", "anon", "1"), ("b", "anon", "2"), ("c", "real", "3"), ("d", "", "4")):
        catalog.add_file(path, size=1, volume=path, number=None, is_dicom=True)
        catalog.add_series(path, patient=patient, study=study, series=f"{study}.1")
    assert catalog.shared_patients() == {"anon", ""}
    assert [catalog.patient_of(path) for path in "abc"] == [("", "1.1"), ("", "2.1"), ("real", "")]
    assert catalog.count_volumes() == 4
