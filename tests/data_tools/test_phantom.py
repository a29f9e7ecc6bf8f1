from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.console import UsageError
from data_tools.phantom import phantom
from data_tools.settings import PhantomSettings
from tests.data_tools.slices import Pack, Pixels, only_group


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pixels]:
    out = tmp_path_factory.mktemp("phantom") / "out"
    phantom(PhantomSettings(out, subjects=7, slices=6, size=64))
    return {path.relative_to(out).as_posix(): np.asarray(Image.open(path)) for path in sorted(out.rglob("*.png"))}


def of(slices: dict[str, Pixels], subject: int) -> Pixels:
    return np.stack([p for name, p in slices.items() if f"case_{subject:03d}_" in name]).astype(float)


def test_names_tell_split_subject_and_slice(slices: dict[str, Pixels]) -> None:
    assert len(slices) == 42
    assert "train/case_000_slice_0.png" in slices
    assert {name.split("/")[1].split("_slice")[0] for name in slices if name.startswith("test/")} == {"case_006"}


def test_the_same_seed_makes_the_same_slices_however_many(tmp_path: Path) -> None:
    for name, subjects, seed in (("a", 2, 3), ("b", 4, 3), ("c", 2, 4)):
        phantom(PhantomSettings(tmp_path / name, subjects=subjects, slices=2, size=32, seed=seed))
    a, b, c = (next((tmp_path / name).rglob("case_000_slice_1.png")).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_heads_are_skull_stripped_on_exact_black(slices: dict[str, Pixels]) -> None:
    for pixels in slices.values():
        assert pixels.dtype == np.uint8
        assert not pixels[[0, -1]].any()
        assert not pixels[:, [0, -1]].any()
        assert 0.15 < (pixels > 5).mean() < 0.7
        assert len(np.unique(pixels)) > 60


def test_neighbouring_slices_are_alike_and_subjects_are_not(slices: dict[str, Pixels]) -> None:
    def difference(a: Pixels, b: Pixels) -> float:
        return float(np.abs(a - b).mean())

    near = np.mean([difference(of(slices, s)[2], of(slices, s)[3]) for s in range(7)])
    far = np.mean([difference(of(slices, s)[2], of(slices, s)[5]) for s in range(7)])
    others = np.mean([difference(of(slices, s)[2], of(slices, (s + 1) % 7)[2]) for s in range(7)])
    assert near < far
    assert near < 0.6 * others


def test_the_two_hemispheres_are_alike_but_not_mirror_images(slices: dict[str, Pixels]) -> None:
    for subject in range(7):
        pixels = of(slices, subject)[2]
        mirrored = np.abs(pixels - pixels[:, ::-1]).mean()
        assert 0 < mirrored < 0.7 * np.abs(pixels - pixels.mean()).mean()


def test_phantoms_pack_by_subject_and_split(slices: dict[str, Pixels], tmp_path: Path, pack_here: Pack) -> None:
    phantom(PhantomSettings(tmp_path / "in", subjects=13, slices=2, size=32))
    with pack_here(tmp_path / "in", strict=True) as reader:
        group = only_group(reader)
        assert len(reader.subjects) == 13
        assert [len(reader.rows(group, split)) for split in ("train", "validate", "test")] == [20, 2, 4]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        phantom(PhantomSettings(tmp_path))
