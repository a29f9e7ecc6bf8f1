from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqvae_dist.models.draw import Filter, draw_codes, filtered_probabilities, uniform_numbers

logit_rows = st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=12)
filters = st.builds(Filter, temperature=st.floats(0.05, 5), top_k=st.integers(0, 15), top_p=st.floats(0.01, 1))


@given(logit_rows, st.floats(0, 1, exclude_max=True), filters)
def test_every_number_draws_a_code_that_the_filter_kept(row: list[float], number: float, kept: Filter) -> None:
    logits = torch.tensor([row])
    code = draw_codes(logits, torch.tensor([number], dtype=torch.float64), kept)
    assert filtered_probabilities(logits, kept)[0, code] > 0


@given(st.lists(st.floats(-15, 15, width=32), min_size=1, max_size=12), st.integers(1, 15))
def test_top_k_keeps_the_k_likeliest(row: list[float], k: int) -> None:
    logits = torch.tensor([row])
    kept = filtered_probabilities(logits, Filter(top_k=k))[0] > 0
    assert kept.sum() == min(k, len(row))
    if not kept.all():
        assert logits[0, kept].min() >= logits[0, ~kept].max()


def test_top_p_of_one_keeps_every_code_that_top_k_left() -> None:
    logits = torch.tensor([[0.0, 38.0]])  # beside the other code, the first is lost in rounding
    assert (filtered_probabilities(logits, Filter(top_k=2)) > 0).all()


def test_top_p_keeps_the_fewest_codes_that_reach_it() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    assert (filtered_probabilities(logits, Filter(top_p=0.7)) > 0).tolist() == [[False, True, False, True]]
    assert (filtered_probabilities(logits, Filter(top_p=0.49)) > 0).tolist() == [[False, True, False, False]]
    assert (filtered_probabilities(logits, Filter(top_p=0.8)) > 0).tolist() == [[False, True, True, True]]


def test_top_p_is_taken_of_what_top_k_left() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    kept = filtered_probabilities(logits, Filter(top_k=2, top_p=0.57)) > 0  # 0.4 of the remaining 0.7 is 0.571
    assert kept.tolist() == [[True, False, False, False]]


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    numbers = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = draw_codes(probabilities.log().expand(1000, -1), numbers, Filter())
    assert drawn.bincount(minlength=4).tolist() == [500, 0, 300, 200]


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_never_draw_an_impossible_code(number: float) -> None:
    logits = torch.tensor([[-1e4, 0.1, 0.2, 0.3, -1e4]])
    assert draw_codes(logits, torch.tensor([number], dtype=torch.float64), Filter()).item() in (1, 2, 3)


def test_a_low_temperature_takes_the_likeliest_code() -> None:
    logits = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    numbers = uniform_numbers(0, range(50), 1)[:, 0]
    assert torch.equal(draw_codes(logits, numbers, Filter(temperature=1e-4)), logits.argmax(-1))


def test_numbers_follow_from_seed_and_sample_alone() -> None:
    assert torch.equal(uniform_numbers(3, range(5), 8)[2:], uniform_numbers(3, range(2, 5), 8))
    assert not torch.equal(uniform_numbers(3, range(1), 8), uniform_numbers(4, range(1), 8))
