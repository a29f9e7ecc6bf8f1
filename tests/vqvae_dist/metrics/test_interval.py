from __future__ import annotations

import numpy as np
import pytest

from vqvae_dist.metrics.interval import bootstrap_ci95, summarise


def test_interval_of_many_independent_values_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_ci95(values, np.arange(400))
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.02)
    assert high == pytest.approx(values.mean() + error, abs=0.02)


def test_alike_slices_of_a_subject_do_not_narrow_the_interval() -> None:
    per_subject = np.random.default_rng(1).normal(0, 1, 8)
    values, subject = np.repeat(per_subject, 50), np.repeat(np.arange(8), 50)
    by_subject = bootstrap_ci95(values, subject)
    assert by_subject == pytest.approx(bootstrap_ci95(per_subject, np.arange(8)))
    by_slice = bootstrap_ci95(values, np.arange(400))
    assert by_subject[1] - by_subject[0] > 5 * (by_slice[1] - by_slice[0])


def test_a_subject_weighs_as_many_slices_as_it_has() -> None:
    values, subject = np.array([0.0] * 9 + [1.0]), np.array([0] * 9 + [1])
    assert bootstrap_ci95(values, subject) == (0.0, 1.0)
    assert summarise(list(values), subject)["mean"] == pytest.approx(0.1)


def test_interval_is_equal_for_equal_seed_and_whatever_the_subjects_are_called() -> None:
    values = np.random.default_rng(2).random(30)
    subject = np.repeat(np.arange(6), 5)
    assert bootstrap_ci95(values, subject, seed=4) == bootstrap_ci95(values, subject * 1000 + 7, seed=4)
    assert bootstrap_ci95(values, subject, seed=4) != bootstrap_ci95(values, subject, seed=5)


def test_interval_is_the_same_when_drawn_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    values, subject = np.random.default_rng(2).random(40), np.arange(40)
    whole = bootstrap_ci95(values, subject)
    monkeypatch.setattr("vqvae_dist.metrics.interval._CELLS_AT_ONCE", 1000)
    assert bootstrap_ci95(values, subject) == whole


def test_summary_leaves_out_slices_without_the_figure() -> None:
    summary = summarise([None, 1.0, 3.0, None, 2.0], np.array([0, 1, 1, 2, 3]))
    assert summary == {"slices": 3, "mean": 2.0, "min": 1.0, "max": 3.0, "ci95": (2.0, 2.0)}


def test_summary_of_one_subject_has_no_interval() -> None:
    summary = summarise([None, 1.0, 3.0, None], np.array([0, 1, 1, 2]))
    assert summary == {"slices": 2, "mean": 2.0, "min": 1.0, "max": 3.0, "ci95": None}


def test_summary_of_a_figure_that_no_slice_has_is_empty() -> None:
    empty = {"slices": 0, "mean": None, "min": None, "max": None, "ci95": None}
    assert summarise([None, None], np.array([0, 1])) == empty


def test_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_ci95(np.array([]), np.array([], dtype=int))
