from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqvae_dist.data.order import SampleOrder

COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any).map(tuple)


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, seed=st.integers(0, 2**63 - 1), batch=st.integers(1, 40), step=st.integers(0, 3000))
def test_a_step_is_a_function_of_seed_and_step(counts: tuple[int, ...], seed: int, batch: int, step: int) -> None:
    used = SampleOrder(counts, seed=seed, batch_size=batch)
    for earlier in (0, step // 2, step + 5):  # whatever was asked before
        used.at(earlier)
    plan, fresh = used.at(step), SampleOrder(counts, seed=seed, batch_size=batch).at(step)
    assert plan.shape == fresh.shape
    assert np.array_equal(plan.rows, fresh.rows)
    assert np.array_equal(plan.positions, np.arange(step * batch, (step + 1) * batch))
    assert 0 <= plan.rows.min() <= plan.rows.max() < counts[plan.shape]


@pytest.mark.parametrize(("count", "batch"), [(24, 8), (20, 8), (5, 8), (7, 3)])
def test_every_slice_comes_once_an_epoch(count: int, batch: int) -> None:
    order = SampleOrder((count,), seed=3, batch_size=batch)
    stream = np.concatenate([order.at(step).rows for step in range(6 * count)])
    for epoch in range(6):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_different_orders() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = SampleOrder((30,), seed=seed, batch_size=30)
        return list(order.at(number).rows)

    assert len({tuple(epoch(seed, number)) for seed in range(3) for number in range(3)}) == 9


def test_shapes_come_in_proportion_and_each_in_epochs_of_its_own() -> None:
    counts = (10, 60, 30)
    order = SampleOrder(counts, seed=0, batch_size=5)
    plans = [order.at(step) for step in range(3000)]
    shares = Counter(plan.shape for plan in plans)
    for shape, count in enumerate(counts):
        assert shares[shape] / 3000 == pytest.approx(count / 100, abs=0.03)
        stream = np.concatenate([plan.rows for plan in plans if plan.shape == shape])
        whole = len(stream) // count
        assert (np.bincount(stream[: whole * count], minlength=count) == whole).all()


def test_batch_size_does_not_change_the_stream() -> None:
    streams = [
        np.concatenate([SampleOrder((30,), seed=1, batch_size=b).at(s).rows for s in range(120 // b)]) for b in (4, 12)
    ]
    assert streams[0].tolist() == streams[1].tolist()


def test_epoch_counts_samples_seen() -> None:
    order = SampleOrder((30, 10), seed=0, batch_size=8)
    assert [order.epoch_at(step) for step in (0, 10, 13)] == [0.0, 2.0, 2.6]


def test_nothing_to_order_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        SampleOrder((0, 0), seed=0, batch_size=1)


def test_the_order_is_pinned() -> None:
    """Runs go on in it after an update: a change here repeats and leaves out samples of what people train."""
    order = SampleOrder((5, 7), seed=3, batch_size=4)
    assert [(plan.shape, plan.rows.tolist()) for plan in map(order.at, range(5))] == [
        (0, [4, 2, 1, 3]),
        (0, [0, 3, 1, 4]),
        (1, [2, 1, 4, 0]),
        (1, [5, 6, 3, 5]),
        (1, [4, 3, 0, 2]),
    ]
