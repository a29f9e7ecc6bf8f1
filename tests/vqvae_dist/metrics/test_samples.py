from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqvae_dist.metrics.image import ssim
from vqvae_dist.metrics.samples import ms_ssim, ms_ssim_diversity, nearest_train, sliced_wasserstein


def smooth_noise(count: int, height: int = 64, width: int = 64, seed: int = 0, detail: int = 8) -> Tensor:
    noise = torch.rand(count, 1, detail, detail, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)


def test_sliced_wasserstein_has_a_level_for_each_halving() -> None:
    assert list(sliced_wasserstein(smooth_noise(3, 64, 56), smooth_noise(3, 64, 56))) == [64, 32, 16, 8]
    assert list(sliced_wasserstein(smooth_noise(3, 20, 20), smooth_noise(3, 20, 20))) == [20, 10]


def test_sets_of_one_kind_are_near_and_another_kind_is_far() -> None:
    real, same, other = smooth_noise(24), smooth_noise(24, seed=1), smooth_noise(24, seed=1, detail=20)
    near, far = sliced_wasserstein(real, same), sliced_wasserstein(real, other)
    assert all(near[level] < far[level] / 2 for level in (64, 32))


def test_white_noise_is_seen_at_the_finest_level_most() -> None:
    real = smooth_noise(24)
    noisy = real + 0.05 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    distances = sliced_wasserstein(real, noisy)
    assert distances[64] > 3 * distances[16]


def test_a_change_of_contrast_counts() -> None:
    real = smooth_noise(24)
    assert sliced_wasserstein(real, 0.5 * real)[32] > 5 * sliced_wasserstein(real, real)[32]


def test_sliced_wasserstein_is_equal_for_equal_seed() -> None:
    a, b = smooth_noise(4), smooth_noise(4, seed=1)
    assert sliced_wasserstein(a, b, seed=3) == sliced_wasserstein(a, b, seed=3)
    assert sliced_wasserstein(a, b, seed=3) != sliced_wasserstein(a, b, seed=4)


def test_sliced_wasserstein_of_black_sets_is_zero() -> None:
    black = torch.zeros(2, 32, 32)
    assert set(sliced_wasserstein(black, black).values()) == {0.0}


def test_sliced_wasserstein_names_images_smaller_than_a_patch() -> None:
    with pytest.raises(ValueError, match="at least 7x7 pixels, got 6x20"):
        sliced_wasserstein(torch.zeros(2, 6, 20), torch.zeros(2, 6, 20))


def test_ms_ssim_of_equal_images_is_one_and_falls_with_noise() -> None:
    images = smooth_noise(3)[:, None]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(images, images) == pytest.approx(torch.ones(3))
    little, much = (ms_ssim(images, images + level * noise) for level in (0.02, 0.2))
    assert (little < 1).all()
    assert (little > much).all()


def test_ms_ssim_with_room_for_one_scale_is_ssim() -> None:
    a, b = smooth_noise(2, 13, 13)[:, None], smooth_noise(2, 13, 13, seed=1)[:, None]
    assert ms_ssim(a, b) == pytest.approx(ssim(a, b).clamp_min(0))


def test_diversity_of_copies_is_one_and_of_different_images_lower() -> None:
    images = smooth_noise(6)
    assert ms_ssim_diversity(images[:1].expand(6, -1, -1)) == pytest.approx(1)
    diversity = ms_ssim_diversity(images)
    assert diversity is not None
    assert diversity < 0.9
    assert ms_ssim_diversity(images[:1]) is None


def test_diversity_is_the_mean_over_all_pairs() -> None:
    images = smooth_noise(4)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = np.mean([ms_ssim(images[i][None, None], images[j][None, None]).item() for i, j in pairs])
    assert ms_ssim_diversity(images) == pytest.approx(expected, abs=1e-6)
    assert ms_ssim_diversity(images, max_pairs=3, seed=1) == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("shift", [(0, 0), (4, 0), (-4, 4)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_shifted_or_mirrored_copy_is_found(shift: tuple[int, int], mirrored: bool) -> None:
    train = F.pad(smooth_noise(9, 48, 48), (8, 8, 8, 8))
    copy = torch.roll(train[6:7], shift, (1, 2))
    nearest = nearest_train(copy.flip(-1) if mirrored else copy, train.split(4))
    assert nearest.number.tolist() == [6]
    assert nearest.rmse[0] < 1e-6


def test_distance_to_the_nearest_is_a_root_mean_square() -> None:
    train = torch.zeros(3, 32, 32)
    nearest = nearest_train(torch.full((2, 32, 32), 0.25), [train])
    assert nearest.rmse == pytest.approx([0.25, 0.25])


def test_large_slices_are_compared_at_low_resolution() -> None:
    train = smooth_noise(2, 144, 288)
    checkerboard = (torch.arange(144)[:, None] + torch.arange(288)) % 2 - 0.5
    nearest = nearest_train(train[1:] + 0.2 * checkerboard, [train])
    assert nearest.number.tolist() == [1]
    assert nearest.rmse[0] < 1e-6, "detail finer than a block does not count"


def test_without_training_slices_nothing_is_near() -> None:
    nearest = nearest_train(torch.zeros(1, 16, 16), [])
    assert nearest.rmse.tolist() == [np.inf]
    assert nearest.number.tolist() == [-1]
