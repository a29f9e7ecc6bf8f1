from __future__ import annotations

import numpy as np
import torch

from vqvae_dist.counter_random import cell_uniforms, keys, uniforms


def test_numbers_are_a_function_of_seed_stream_and_counter() -> None:
    counters = np.arange(1000)
    assert np.array_equal(keys(3, 1, counters)[200:300], keys(3, 1, counters[200:300]))


def test_seeds_and_streams_share_no_numbers() -> None:
    """Seeds 0 and 1 must not be shifts of each other: their crops and draws would be alike."""
    counters = np.arange(1000)
    found = [set(keys(seed, stream, counters).tolist()) for seed in (0, 1, 2**62) for stream in (1, 2)]
    assert len(set.union(*found)) == 6000


def test_numbers_are_pinned() -> None:
    """Orders, crops and draws of every run follow from them."""
    assert keys(0, 1, np.arange(2)).tolist() == [-3642288131749336026, 5095610196844313600]
    assert cell_uniforms(torch.tensor([5]), 2).tolist()[0] == [0.38676804304122925, 0.7523069977760315]


def test_uniforms_are_uniform() -> None:
    host = uniforms(7, 2, np.arange(100_000))
    cells = cell_uniforms(torch.from_numpy(keys(7, 3, np.arange(100))), 1000).flatten().double().numpy()
    for drawn in (host, cells):
        assert 0 <= drawn.min() < 1e-3
        assert 1 - 1e-3 < drawn.max() < 1
        counts = np.histogram(drawn, 20, (0, 1))[0]
        assert ((counts - 5000) ** 2 / 5000).sum() < 60  # chi-square of 19 degrees; 60 has p < 1e-5
        assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02


def test_cell_uniforms_never_reach_0_or_1() -> None:
    """Their logarithms are taken twice: at 1 a draw would win whatever its weight."""
    extreme = torch.tensor([0, -1, 1 << 62, -(1 << 63)])
    drawn = cell_uniforms(extreme, 100_000)
    assert drawn.min() >= 2.0**-24
    assert drawn.max() <= 1 - 2.0**-24
    top = ((2**23 - 1) + torch.tensor(0.5)) * 2.0**-23
    assert top < 1


def test_a_slice_s_numbers_do_not_depend_on_its_batch_or_size() -> None:
    all_keys = torch.tensor([11, -12, 13])
    assert torch.equal(cell_uniforms(all_keys, 50)[1], cell_uniforms(all_keys[1:2], 80)[0, :50])
