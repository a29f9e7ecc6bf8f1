import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.slicefile import scale_to_unit
from tests.data_tools.slices import Pack, Save, all_pixels, brain, only_group, report, save_nifti


def test_window_of_a_volume_is_robust_and_its_own(tmp_path: Path, pack_here: Pack) -> None:
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[2:18, 2:18] = np.random.default_rng(0).uniform(50, 100, (16, 16, 20))
    voxels[5, 5, 5] = 1e6
    save_nifti(tmp_path / "in" / "a.nii", voxels)
    save_nifti(tmp_path / "in" / "b.nii", voxels * 3 - 30 * (voxels > 0).astype(np.float32) * 5)
    with pack_here(tmp_path / "in") as reader:
        group = only_group(reader)
        low, high = reader.index(group).window[0]
        assert low == 0
        assert 99 < high < 101
        assert reader.index(group).window[-1][0] == 0
        assert reader.scaled(group, 5).max() == 1
        assert reader.scaled(group, 5).dtype == np.float32


def test_negative_values_start_the_window(tmp_path: Path, pack_here: Pack) -> None:
    save_nifti(tmp_path / "in" / "a.nii", np.linspace(-100, 100, 2000).reshape(20, 20, 5).astype(np.float32))
    with pack_here(tmp_path / "in") as reader:
        assert reader.index(only_group(reader)).window[0][0] == -100


def test_slope_and_intercept_change_the_window_not_the_pixels(tmp_path: Path, pack_here: Pack) -> None:
    voxels = np.random.default_rng(0).integers(1000, 2000, (12, 12, 3)).astype(np.int16)
    save_nifti(tmp_path / "in" / "a.nii", voxels, slope=2.0, inter=-2000.0)
    with pack_here(tmp_path / "in", window=(0.0, 1000.0)) as reader:
        group = only_group(reader)
        np.testing.assert_array_equal(reader.read(group, 0), voxels[:, :, 0])
        assert reader.index(group).window[0].tolist() == [1000, 1500]
        assert (reader.source(0).slope, reader.source(0).intercept) == (2, -2000)


def test_a_slope_that_makes_the_window_too_wide_is_named(tmp_path: Path, pack_here: Pack) -> None:
    voxels = np.random.default_rng(0).integers(1, 90, (12, 12, 3)).astype(np.int16)
    save_nifti(tmp_path / "in" / "a.nii", voxels, slope=1e-30, inter=0.0)
    save_nifti(tmp_path / "in" / "b.nii", voxels)
    with pack_here(tmp_path / "in", window=(0.0, 1e9), min_foreground=0.0) as reader:
        assert "by which nothing can be scaled" in report(reader)["a.nii"]
        assert reader.source_count == 1


@pytest.mark.parametrize("order", [(0.0, 200.0), (200.0, 0.0)])
def test_scaling_clips_and_inverts(order: tuple[float, float]) -> None:
    raw = np.array([[-5, 0, 100], [200, 300, 50]], np.int16)
    up = np.array([[0, 0, 0.5], [1, 1, 0.25]], np.float32)
    np.testing.assert_allclose(scale_to_unit(raw, order), up if order[0] == 0 else 1 - up)


def test_scaling_gives_no_nan() -> None:
    raw = np.array([[np.nan, np.inf, -np.inf, 5]], np.float32)
    np.testing.assert_array_equal(scale_to_unit(raw, (0, 10)), [[0, 1, 0, 0.5]])
    np.testing.assert_array_equal(scale_to_unit(raw, (5, 5)), [[0, 0, 0, 0]])


def test_uint8_255_is_exactly_1() -> None:
    assert scale_to_unit(np.array([[255, 0]], np.uint8), (0.0, 255.0)).tolist() == [[1.0, 0.0]]


def test_empty_slices_are_left_out_counted_and_kept_on_demand(save: Save, pack_here: Pack) -> None:
    dot = np.zeros((20, 24), np.uint8)
    dot[3, 3] = 255
    save("black.png", np.zeros((20, 24), np.uint8))
    save("white.png", np.full((20, 24), 255, np.uint8))
    save("dot.png", dot)
    folder = save("good.png", brain())
    with pack_here(folder) as reader:
        assert len(all_pixels(reader)) == 1
        assert set(report(reader)) == {"black.png", "white.png", "dot.png"}
        assert json.loads(reader.path.with_suffix(".report.json").read_text())["dropped"] == 3
    with pack_here(folder, min_foreground=0.0, output="all.h5") as reader:
        assert len(all_pixels(reader)) == 4


def test_nan_voxels_are_kept_and_no_finite_value_is_named(tmp_path: Path, pack_here: Pack) -> None:
    voxels = np.random.default_rng(0).uniform(0, 9, (8, 8, 3)).astype(np.float32)
    voxels[1, 1, 1] = np.nan
    save_nifti(tmp_path / "in" / "a.nii", voxels)
    save_nifti(tmp_path / "in" / "b.nii", np.full((8, 8, 3), np.nan, np.float32))
    with pack_here(tmp_path / "in") as reader:
        group = only_group(reader)
        assert np.isnan(reader.read(group, 1)[1, 1])
        assert reader.scaled(group, 1)[1, 1] == 0
        assert "finite" in report(reader)["b.nii"]
