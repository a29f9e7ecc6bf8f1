from pathlib import Path

import numpy as np
import pytest
import tifffile

from data_tools.console import CommandError
from tests.data_tools.slices import Pack, Save, all_pixels, brain


def test_one_subject_on_both_sides_is_an_error(save: Save, pack_here: Pack, tmp_path: Path) -> None:
    save("train/case_1_slice_1.png", brain())
    folder = save("test/case_1_slice_2.png", brain(seed=1))
    with pytest.raises(CommandError, match="subject 'case_1'"):
        pack_here(folder)
    assert not (tmp_path / "out.h5").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_the_same_pixels_on_both_sides_are_an_error_that_names_them(save: Save, pack_here: Pack) -> None:
    save("train/case_1.png", brain())
    folder = save("test/case_2.png", brain())
    with pytest.raises(CommandError, match=r"same pixels.*test/case_2.png \(test\).*train/case_1.png \(train\)"):
        pack_here(folder)


def test_empty_slices_are_alike_without_being_a_leak(save: Save, pack_here: Pack) -> None:
    for case, split in ((1, "train"), (2, "test")):
        save(f"{split}/case_{case}_slice_0.png", np.zeros((20, 24), np.uint8))
        folder = save(f"{split}/case_{case}_slice_1.png", brain(seed=case))
    assert len(all_pixels(pack_here(folder, min_foreground=0.0))) == 4


@pytest.mark.parametrize(("one", "other"), [("uint8", "uint16"), ("int16", "uint16"), ("float32", "uint8")])
def test_the_same_pixels_in_another_depth_are_an_error(
    one: str, other: str, save: Save, pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_tools.leaks._ROWS_A_PASS", 2)
    pixels = brain() * (1 if "uint8" in (one, other) else 7)
    for seed in range(3):
        save(f"train/case_2{seed}.png", brain(seed=seed + 1, dtype="uint16"))
    for folder, dtype in (("train", one), ("test", other)):
        path = save(f"{folder}/case_{folder == 'test':d}.png", brain(21, seed=folder == "test"))
        tifffile.imwrite(path / folder / f"case_{folder == 'test':d}.tif", pixels.astype(dtype))
    with pytest.raises(CommandError, match=r"same pixels.*case_[01].tif \(t.*case_[01].tif \(t"):
        pack_here(path)


def test_the_same_bytes_of_other_numbers_are_no_leak(save: Save, pack_here: Pack) -> None:
    signed = brain(dtype="uint16").astype(np.int16) - 2000
    for folder, pixels in (("train", signed), ("test", signed.view(np.uint16))):
        path = save(f"{folder}/case_{folder == 'test':d}.png", brain(seed=folder == "test"))
        tifffile.imwrite(path / folder / f"case_{folder == 'test':d}.tif", pixels)
    assert len(all_pixels(pack_here(path))) == 4


def test_not_a_number_hides_no_leak(save: Save, pack_here: Pack) -> None:
    pixels = brain().astype(np.float32)
    pixels[0, 0] = np.nan
    for number, folder in enumerate(("train", "test")):
        path = save(f"{folder}/case_{number}.png", brain(seed=number))
        tifffile.imwrite(path / folder / f"case_{number}.tif", pixels)
    with pytest.raises(CommandError, match="same pixels"):
        pack_here(path)
