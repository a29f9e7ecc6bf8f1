from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqvae_dist.metrics.codebook import codebook_use, foreground_cells, perplexity


def test_perplexity_of_equally_used_codes_is_their_number() -> None:
    assert perplexity(np.array([7, 7, 0, 7, 0])) == pytest.approx(3)
    assert perplexity(np.array([0, 12, 0])) == pytest.approx(1)
    assert perplexity(np.zeros(4, dtype=int)) is None


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50).filter(any))
def test_perplexity_lies_between_one_and_the_number_of_used_codes(counts: list[int]) -> None:
    value = perplexity(np.array(counts))
    assert value is not None
    assert 1 - 1e-9 <= value <= np.count_nonzero(counts) * (1 + 1e-9)


def test_background_does_not_hide_how_the_head_is_coded() -> None:
    counts = np.array([900, 25, 25, 25, 25, 0, 0, 0])
    foreground = np.array([0, 25, 25, 25, 25, 0, 0, 0])
    use = codebook_use(counts, foreground)
    assert use.usage == 5 / 8
    assert use.perplexity is not None
    assert use.perplexity < 2
    assert use.perplexity_foreground == pytest.approx(4)
    assert use.foreground_share == pytest.approx(0.1)
    assert use.background_codes == pytest.approx(1 / 5)


def test_use_of_a_codebook_never_consulted_has_no_perplexity() -> None:
    use = codebook_use(np.zeros(4, dtype=int), np.zeros(4, dtype=int))
    assert use == (0.0, None, None, None, None)


@given(st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 2, 4]), st.data())
def test_a_cell_is_foreground_if_any_of_its_pixels_is(
    height: int, width: int, downsample: int, data: st.DataObject
) -> None:
    flat = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(flat).reshape(height, width)
    cells = foreground_cells(mask, downsample)
    assert cells.shape == (-(-height // downsample), -(-width // downsample))
    for (i, j), cell in np.ndenumerate(cells):
        rows, columns = (slice(k * downsample, (k + 1) * downsample) for k in (i, j))
        assert cell == mask[rows, columns].any()
