from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from vqvae_dist.metrics.image import (
    foreground_mask,
    score_batch,
    score_slice,
    ssim,
    ssim_map,
    ssim_terms,
)


def head(height: int = 48, width: int = 56, level: float = 0.6, seed: int = 0) -> npt.NDArray[np.float32]:
    """A textured ellipse on exact black."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    texture = level + 0.2 * np.sin(9 * x) * np.cos(7 * y) + np.random.default_rng(seed).normal(0, 0.03, x.shape)
    return np.where(x**2 + y**2 < 0.5, texture, 0).clip(0, 1).astype(np.float32)


def as_batch(*images: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.stack(images))[:, None]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(7, 41),
    st.integers(7, 41),
    st.floats(0, 1),
    st.sampled_from([0.0, 1e-5, 1e-3, 0.02, 0.5]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**32 - 1),
)
def test_torch_ssim_agrees_with_scikit_image(
    height: int, width: int, level: float, noise: float, dtype: torch.dtype, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # In float32 a single window is good to 1e-4 and their mean to 1e-5, so that needs some windows.
    shape = (height, width) if dtype is torch.float64 else (height + 16, width + 16)
    a, b = (np.clip(level + rng.normal(0, noise, shape), 0, 1).astype(np.float32) for _ in range(2))
    expected = structural_similarity(a.astype(float), b.astype(float), data_range=1.0)
    ours = ssim(as_batch(a).to(dtype), as_batch(b).to(dtype)).item()
    assert ours == pytest.approx(expected, abs=1e-10 if dtype is torch.float64 else 1e-5)


@pytest.mark.parametrize("shape", [(7, 7), (33, 47), (48, 48)])
def test_ssim_map_agrees_with_scikit_image_up_to_the_border(shape: tuple[int, int]) -> None:
    height, width = shape
    a, b = head(height, width), head(height, width, seed=1)
    _, expected = structural_similarity(a.astype(float), b.astype(float), data_range=1.0, full=True)
    assert np.abs(ssim_map(as_batch(a).double(), as_batch(b).double())[0, 0].numpy() - expected).max() < 1e-9
    assert np.abs(ssim_map(as_batch(a), as_batch(b))[0, 0].numpy() - expected).max() < 3e-4


def test_ssim_of_a_batch_scores_each_image_alone() -> None:
    a, b, c = head(), head(seed=1), head(level=0.3)
    together = ssim(as_batch(a, b, c), as_batch(b, b, a))
    alone = torch.cat([ssim(as_batch(x), as_batch(y)) for x, y in [(a, b), (b, b), (c, a)]])
    assert torch.equal(together, alone)
    assert together[1] == 1


def test_ssim_of_equal_black_images_is_exactly_one() -> None:
    black = torch.zeros(1, 1, 32, 32)
    assert ssim(black, black).item() == 1


def test_ssim_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 1, 9, 11, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(ssim, (a.requires_grad_(), b.requires_grad_()))
    assert torch.autograd.gradcheck(ssim_map, (a, b))


def test_ssim_of_half_precision_images_is_computed_in_float32() -> None:
    a, b = as_batch(head()).bfloat16(), as_batch(head(seed=1)).bfloat16()
    assert ssim(a, b).dtype is torch.float32
    assert torch.equal(ssim(a, b), ssim(a.float(), b.float()))


def test_ssim_names_an_image_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 7x7 pixels, got \\(6, 9\\)"):
        ssim_terms(torch.zeros(1, 1, 6, 9), torch.zeros(1, 1, 6, 9))


def test_scores_of_a_slice_are_those_of_scikit_image() -> None:
    a = head()
    mask = foreground_mask(a, noisy_air=False)
    b = np.clip(a + mask * np.random.default_rng(5).normal(0, 0.05, a.shape), 0, 1).astype(np.float32)
    scores = score_slice(a, b, mask)
    a, b = a.astype(float), b.astype(float)
    mean, full = structural_similarity(a, b, data_range=1.0, full=True)
    assert scores.ssim == pytest.approx(mean, abs=1e-12)
    assert scores.ssim_foreground == pytest.approx(full[mask].mean(), abs=1e-12)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-9)
    assert scores.mse_foreground == pytest.approx(((a - b) ** 2)[mask].mean(), rel=1e-9)
    assert scores.ssim_foreground is not None
    assert scores.ssim > scores.ssim_foreground, "black background flatters the frame"
    assert not scores.dead


def test_batch_scores_agree_with_the_reported_ones() -> None:
    originals = [head(), head(level=0.4), np.zeros((48, 56), np.float32)]
    rng = np.random.default_rng(2)
    reconstructions = [(x + rng.normal(0, 0.1, x.shape)).astype(np.float32) for x in originals]
    masks = [foreground_mask(x, noisy_air=False) for x in originals]
    batch = score_batch(as_batch(*originals), as_batch(*reconstructions), as_batch(*masks))
    for ours, row in zip(batch, zip(originals, reconstructions, masks, strict=True), strict=True):
        for name, value in score_slice(*row)._asdict().items():
            assert getattr(ours, name) == (None if value is None else pytest.approx(value, abs=2e-5)), name


def test_psnr_of_equal_images_does_not_exist() -> None:
    a = head()
    scores = score_slice(a, a, foreground_mask(a, noisy_air=False))
    assert scores == scores._replace(
        ssim=1, ssim_foreground=1, psnr=None, mse=0, mse_foreground=0, black_error=0, dead=False
    )


def test_values_beyond_black_and_white_are_clipped_before_scoring() -> None:
    a = head()
    mask = foreground_mask(a, noisy_air=False)
    beyond = np.where(mask, a, -3.0)
    assert score_slice(a, beyond, mask).mse == 0
    assert score_batch(as_batch(a), as_batch(beyond), as_batch(mask))[0].mse == 0


@pytest.mark.parametrize(("pixels", "given_a_figure"), [(99, False), (100, True)])
def test_too_small_a_foreground_has_no_figures_and_is_not_dead(pixels: int, given_a_figure: bool) -> None:
    a = np.zeros((32, 32), np.float32)
    a.ravel()[:pixels] = 0.5
    scores = score_slice(a, np.zeros_like(a), foreground_mask(a, noisy_air=False))
    assert (scores.ssim_foreground is not None, scores.mse_foreground is not None) == (given_a_figure,) * 2
    assert scores.dead is given_a_figure


def test_a_black_picture_has_a_high_frame_ssim_and_is_dead() -> None:
    a = np.pad(head(), 40)
    scores = score_slice(a, np.zeros_like(a), foreground_mask(a, noisy_air=False))
    assert scores.ssim > 0.7
    assert scores.ssim_foreground is not None
    assert scores.ssim_foreground < 0.05
    assert scores.dead


def test_a_faint_picture_is_dead_by_its_intensity_alone() -> None:
    flat = np.full((32, 32), 0.5, np.float32)
    mask = np.ones_like(flat, dtype=bool)
    fainter = score_slice(flat, 0.24 * flat, mask)
    assert fainter.ssim_foreground is not None
    assert fainter.ssim_foreground > 0.3
    assert fainter.dead
    assert not score_slice(flat, 0.26 * flat, mask).dead


def test_foreground_in_clean_air_is_above_two_percent() -> None:
    image = np.array([[0, 5 / 255, 6 / 255, 1]], np.float32)
    assert foreground_mask(image, noisy_air=False).tolist() == [[False, False, True, True]]


def test_foreground_in_noisy_air_is_the_largest_bright_component() -> None:
    air = np.abs(np.random.default_rng(0).normal(0, 0.04, (64, 64)))
    image = air.copy()
    image[20:40, 20:40] += 0.6
    image[50:54, 50:54] += 0.6  # a bright speck apart from the head
    mask = foreground_mask(image.astype(np.float32), noisy_air=True)
    expected = np.zeros_like(mask)
    expected[20:40, 20:40] = True
    assert (mask == expected).all()
    assert foreground_mask(image, noisy_air=False).sum() > 1.5 * expected.sum(), "the fixed threshold takes noise in"


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_constant_image_in_noisy_air_has_no_foreground(level: float) -> None:
    assert not foreground_mask(np.full((16, 16), level, np.float32), noisy_air=True).any()


def test_a_constant_error_in_black_is_measured_where_the_original_is_black() -> None:
    original = np.zeros((40, 40))
    original[10:30, 10:30] = 0.5
    mask = original > 0
    assert score_slice(original, original + 0.002, mask).black_error == pytest.approx(0.002)
    assert score_slice(original, original - 0.002, mask).black_error == 0, "clipped, as in a saved picture"
    assert score_slice(original, original + 0.3 * mask, mask).black_error == 0
    assert score_slice(original + 0.1, original, mask).black_error is None
