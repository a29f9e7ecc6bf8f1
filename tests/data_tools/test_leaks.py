from pathlib import Path

import numpy as np
import pytest

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
