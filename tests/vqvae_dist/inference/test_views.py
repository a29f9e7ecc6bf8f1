from __future__ import annotations

import numpy as np
import pytest

from vqvae_dist.inference.views import GAMMA, MAX_SHIFT, View, drawn_view

IMAGE = np.pad(np.random.default_rng(0).random((6, 8)).astype(np.float32), 10)


def test_view_0_is_the_slice_as_it_is() -> None:
    assert drawn_view(3, 1, 7, 0, 4).of(IMAGE) is IMAGE


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -5), (-8, 8)])
def test_a_shift_moves_every_pixel_unchanged(down: int, right: int) -> None:
    assert np.array_equal(View(down, right).of(IMAGE), np.roll(IMAGE, (down, right), axis=(0, 1)))


def test_a_shift_uncovers_the_border_not_black() -> None:
    ramp = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert View(1, 0).of(ramp).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert View(0, -1).of(ramp)[:, -1].tolist() == [3, 7, 11]


def test_a_mirrored_view_is_mirrored_left_to_right() -> None:
    assert np.array_equal(View(flipped=True).of(IMAGE), IMAGE[:, ::-1])


def test_gamma_keeps_black_and_white() -> None:
    changed = View(gamma=1.1).of(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert changed[0].tolist() == pytest.approx([0, 0.5**1.1, 1])


def test_views_follow_from_seed_slice_and_number_alone_and_differ() -> None:
    drawn = [drawn_view(1, 0, row, number, 8) for row in range(40) for number in range(1, 8)]
    assert drawn == [drawn_view(1, 0, row, number, 8) for row in range(40) for number in range(1, 8)]
    assert len(set(drawn)) == len(drawn)
    assert drawn[0] != drawn_view(2, 0, 0, 1, 8)
    assert drawn[0] != drawn_view(1, 1, 0, 1, 8)


def test_views_cover_their_ranges_and_stay_inside() -> None:
    drawn = [drawn_view(0, 0, row, 1, 2) for row in range(2000)]
    for shifts in ({view.down for view in drawn}, {view.right for view in drawn}):
        assert shifts == set(range(-MAX_SHIFT, MAX_SHIFT + 1))
    gammas = [view.gamma for view in drawn]
    assert 1 - GAMMA <= min(gammas) < 1 - 0.95 * GAMMA
    assert 1 + 0.95 * GAMMA < max(gammas) <= 1 + GAMMA
    assert 0.4 < np.mean([view.flipped for view in drawn]) < 0.6
