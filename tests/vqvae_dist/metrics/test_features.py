from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from data_tools.phantom import draw_anatomy, draw_slice
from vqvae_dist.metrics.features import (
    FeatureNet,
    coverage,
    features,
    kernel_distance,
    reduced,
    train_features,
)


def heads(subjects: range) -> Tensor:
    """Slices at three heights of each subject, (3 S, 48, 48)."""
    found = []
    for subject in subjects:
        random = np.random.default_rng(subject)
        one = draw_anatomy(random)
        found += [draw_slice(one, height, 48, random) / 255 for height in (-0.4, 0.0, 0.4)]
    return torch.from_numpy(np.stack(found)).float()


@pytest.fixture(scope="module")
def net() -> FeatureNet:
    return train_features(reduced(heads(range(40))))


def test_features_know_a_shifted_slice_among_others(net: FeatureNet) -> None:
    slices = heads(range(100, 110))
    found = features(net, slices)
    shifted = features(net, slices.roll((2, -2), (1, 2)))
    assert found.norm(dim=1) == pytest.approx(torch.ones(30))
    itself = (found @ shifted.T).argmax(1) == torch.arange(30)
    assert itself.float().mean() > 0.4, "0.03 by chance"


def test_other_subjects_cover_and_copies_of_one_do_not(net: FeatureNet) -> None:
    real, other = features(net, heads(range(100, 112))), features(net, heads(range(200, 212)))
    one = features(net, heads(range(200, 201))).repeat(12, 1)
    noise = features(net, torch.rand(36, 48, 48, generator=torch.Generator().manual_seed(0)))
    covered = [coverage(real, found) or 0.0 for found in (other, one, noise)]
    assert covered[0] > 0.7
    assert covered[0] > covered[1] + 0.2
    assert covered[2] < 0.2
    places = torch.arange(3).repeat(12)
    distances = [kernel_distance(real, found, places) or 0.0 for found in (other, one, noise)]
    assert distances[0] < distances[1] / 3  # it has no bias, so it may fall below zero
    assert abs(distances[0]) < distances[2] / 10


@pytest.mark.parametrize("places", [torch.zeros(40, dtype=torch.int64), torch.arange(5).repeat(8)], ids=["one", "five"])
def test_kernel_distance_has_no_bias(places: Tensor) -> None:
    torch.manual_seed(0)
    at = torch.randn(5, 8)[places]  # slices of a place look alike

    def drawn() -> Tensor:
        return at + torch.randn(40, 8) / 3

    found = [kernel_distance(drawn(), drawn(), places) or 0.0 for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 200**0.5
    assert min(found) < 0


def test_kernel_distance_of_one_place_is_that_over_pairs_of_slices() -> None:
    x, y = torch.randn(6, 8), torch.randn(6, 8) + 1
    places = torch.tensor([0, 0, 0, 0, 0, 7])  # the last is alone

    def mean(a: Tensor, b: Tensor) -> Tensor:
        kernel = (a[:5] @ b[:5].T + 1) ** 3
        return kernel[~torch.eye(5, dtype=torch.bool)].mean() if a is b else kernel.mean()

    wanted = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert kernel_distance(x, y, places) == pytest.approx(float(wanted), rel=1e-5)


def test_equal_slices_and_seed_give_equal_nets_and_chance_is_left_alone() -> None:
    images = reduced(heads(range(4)))
    before = torch.get_rng_state()
    one, other = train_features(images), train_features(images)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_too_few_slices_have_no_figure() -> None:
    assert coverage(torch.rand(5, 8), torch.rand(9, 8)) is None
    assert kernel_distance(torch.rand(3, 8), torch.rand(3, 8), torch.arange(3)) is None


def test_slices_are_averaged_down() -> None:
    assert reduced(torch.zeros(2, 288, 216)).shape == (2, 1, 48, 36)
    assert reduced(torch.zeros(2, 33, 40)).shape == (2, 1, 33, 40)
