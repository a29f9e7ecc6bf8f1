from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from vqvae_dist.metrics import rate
from vqvae_dist.metrics.rate import ContextModel, bits_per_pixel, nominal_bits, unigram_bits


def stripes(count: int, shape: tuple[int, int] = (8, 10), K: int = 5, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Code maps whose rows go on counting upwards from a random start: known from the left neighbour alone."""
    start = np.random.default_rng(seed).integers(K, size=(count, shape[0], 1))
    return ((start + np.arange(shape[1])) % K).astype(np.uint16)


def test_nominal_rate_of_the_usual_codes_is_known() -> None:
    cells, pixels = 72 * 72, 288 * 288
    assert bits_per_pixel(nominal_bits(cells, 512), pixels) == 0.5625


def test_cells_over_padding_are_paid_for() -> None:
    assert bits_per_pixel(nominal_bits(3 * 3, 512), 9 * 9) > bits_per_pixel(nominal_bits(2 * 2, 512), 8 * 8)


def test_unigram_charges_the_training_histogram_plus_half() -> None:
    bits = unigram_bits(np.array([7, 0, 1]))
    assert 2.0**-bits == pytest.approx(np.array([7.5, 0.5, 1.5]) / 9.5)


def test_unigram_of_an_empty_training_split_is_the_flat_cost() -> None:
    assert unigram_bits(np.zeros(16, dtype=int)) == pytest.approx(np.full(16, 4.0))


@pytest.mark.parametrize("context", [(0, 0), (2, 1), (1, 2)])
def test_context_probabilities_sum_to_one_over_the_codes(context: tuple[int, int]) -> None:
    K = 3
    train = np.random.default_rng(0).integers(2, size=(4, 6, 5))  # code 2 is never seen
    model = ContextModel.fit([train], K)
    left, above = context
    maps = np.array([[[0, above], [left, code]] for code in range(K)])
    assert np.sum(2.0 ** -model.bits(maps)[:, 1, 1]) == pytest.approx(1)


def test_costs_of_all_small_code_maps_are_a_distribution_over_them() -> None:
    """Only a model that looks at nothing but the past makes the map probabilities sum to 1."""
    K, shape = 2, (2, 3)
    model = ContextModel.fit([np.random.default_rng(1).integers(K, size=(5, *shape))], K)
    maps = np.array(list(itertools.product(range(K), repeat=6))).reshape(-1, *shape)
    assert np.sum(2.0 ** -model.bits(maps).sum(axis=(1, 2))) == pytest.approx(1)


def test_context_bits_follow_the_documented_interpolation() -> None:
    K = 2
    train = np.array([[[0, 1, 1], [1, 1, 0]]])
    cost = ContextModel.fit([train], K).bits(np.array([[[0, 1], [1, 1]]]))[0, 1, 1]  # left 1, above 1, code 1
    s = rate.STRENGTH
    p0 = (4 + 0.5) / (6 + 1)
    after_left = (2 + s * p0) / (3 + s)  # a 1 to the left: codes 1, 1, 0
    after_above = (1 + s * p0) / (2 + s)  # a 1 above: codes 1, 0
    p2 = (1 + s * (after_left + after_above) / 2) / (2 + s)  # both: codes 1 and 0
    assert 2.0**-cost == pytest.approx(p2)


def test_context_model_finds_structure_that_the_histogram_does_not() -> None:
    model = ContextModel.fit([stripes(40)], 5)
    test = stripes(10, seed=1)
    assert unigram_bits(model.counts)[test].mean() == pytest.approx(np.log2(5), abs=0.01)
    assert model.bits(test)[:, :, 1:].mean() < 0.3


def test_context_model_does_not_depend_on_how_the_training_codes_come(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(3).integers(9, size=(12, 7, 5)).astype(np.uint16)
    whole = ContextModel.fit([codes], 9)
    monkeypatch.setattr(rate, "_MERGE_AT", 50)
    portions = ContextModel.fit(np.array_split(codes, 5), 9)
    assert (whole.counts == portions.counts).all()
    assert (whole.bits(codes) == portions.bits(codes)).all()


def test_context_model_takes_grids_of_several_shapes() -> None:
    model = ContextModel.fit([stripes(20, (4, 6)), stripes(20, (9, 3))], 5)
    assert model.counts.sum() == 20 * (24 + 27)
    assert model.bits(stripes(1, (1, 1))).shape == (1, 1, 1)


def test_unfitted_context_model_charges_the_flat_cost() -> None:
    assert ContextModel(8).bits(np.zeros((1, 2, 2), dtype=int)) == pytest.approx(np.full((1, 2, 2), 3.0))


def test_context_model_of_a_large_codebook_stays_small() -> None:
    K = 4096
    codes = np.random.default_rng(0).integers(K, size=(4, 32, 32)).astype(np.uint16)
    model = ContextModel.fit([codes], K)
    assert model._both._pairs.keys.size <= codes.size
    assert np.isfinite(model.bits(np.full((1, 3, 3), K - 1))).all()
