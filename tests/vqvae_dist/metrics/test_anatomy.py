from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from data_tools.phantom import draw_anatomy, draw_slice
from vqvae_dist.metrics.anatomy import Anatomy, anatomy, describe, distances_by_position, tissue_thresholds

Image = npt.NDArray[np.float64]


def phantom(height: float = 0.05, size: int = 128, **changes: Any) -> Image:
    subject = dataclasses.replace(draw_anatomy(np.random.default_rng(1)), lean=0.0, asymmetry=0.0, **changes)
    return draw_slice(subject, height, size, np.random.default_rng(2)) / 255


THRESHOLDS = tissue_thresholds((phantom(h), phantom(h) > 0.02) for h in (-0.3, 0.05, 0.4))


def measured(image: Image) -> Anatomy:
    return anatomy(image, image > 0.02, THRESHOLDS)


def test_thresholds_lie_between_the_phantom_s_tissues() -> None:
    low, high = THRESHOLDS
    assert 0.22 < low < 0.5
    assert 0.5 < high < 0.72


def test_area_is_that_of_the_ellipse() -> None:
    found, wider = measured(phantom(width=0.65, length=0.85)), measured(phantom(width=0.72, length=0.85))
    assert found.area == pytest.approx(np.pi * 0.65 * 0.85 / 4, rel=0.1)
    assert wider.area / found.area == pytest.approx(0.72 / 0.65, rel=0.03)


def test_ventricles_grow_with_the_phantom_s() -> None:
    small, large = measured(phantom(ventricles=0.7)), measured(phantom(ventricles=1.4))
    assert large.ventricles > 2 * small.ventricles > 0
    assert large.fluid > small.fluid


def test_black_ventricles_count_too() -> None:
    image = phantom(ventricles=1.4)
    low, _ = THRESHOLDS
    emptied = np.where(image < low / 2, 0, image)
    assert measured(emptied).ventricles > 0.5 * measured(image).ventricles


def test_a_thicker_cortex_is_more_grey_and_less_white() -> None:
    thin, thick = measured(phantom(cortex=0.055)), measured(phantom(cortex=0.1))
    assert thick.grey > thin.grey
    assert thick.white < thin.white
    assert sum(thin[1:4]) == pytest.approx(1)


def test_symmetry_falls_where_one_half_differs() -> None:
    image = phantom()
    swapped = image.copy()
    swapped[:, :64] = np.where(image[:, :64] > 0, 1 - 0.8 * image[:, :64], 0)
    both = np.maximum(image, image[:, ::-1])
    assert measured(both).symmetry == pytest.approx(1)
    assert measured(both).symmetry > measured(image).symmetry > measured(swapped).symmetry + 0.1


def test_two_heads_are_not_one_and_a_stray_pixel_is_forgiven() -> None:
    image = phantom(size=96)
    speck = image.copy()
    speck[1, 1] = 0.5
    two = np.hstack([image, image])
    assert [measured(one).one_head for one in (image, speck, two)] == [1, 1, 0]


def test_a_black_slice_has_no_anatomy() -> None:
    assert measured(np.zeros((40, 40))) == Anatomy(0, 0, 0, 0, 0, 0, 0)
    assert tissue_thresholds([(np.zeros((4, 4)), np.zeros((4, 4), bool))]) == (1 / 3, 2 / 3)


def test_noisy_air_is_left_out() -> None:
    image = phantom()
    noise = 0.05 * np.random.default_rng(0).random(image.shape)
    clean, noisy = (
        describe([one], noisy_air=air, thresholds=THRESHOLDS)[0] for one, air in ((image, False), (image + noise, True))
    )
    assert noisy[0] == pytest.approx(clean[0], rel=0.25)


def test_distances_are_taken_place_by_place() -> None:
    real = np.repeat(np.arange(4.0)[:, None], len(Anatomy._fields), axis=1)
    places = np.array([0, 0, 1, 1])
    assert set(distances_by_position(real, real[[1, 0, 3, 2]], places).values()) == {0.0}
    assert set(distances_by_position(real, real[[2, 3, 0, 1]], places).values()) == {2.0}
    assert "one_head" not in distances_by_position(real, real, places)
