from __future__ import annotations

import numpy as np
import pytest

from vqvae_dist.metrics.spectrum import radial_spectrum, spectrum_distance


def wave(periods: int, height: int = 64, width: int = 64) -> np.ndarray:
    side = min(height, width)
    return 0.5 + 0.4 * np.sin(2 * np.pi * periods * np.arange(width) / side)[None].repeat(height, 0)


@pytest.mark.parametrize("periods", [4, 9, 20])
def test_a_wave_stands_at_its_frequency(periods: int) -> None:
    spectrum = radial_spectrum(wave(periods))
    assert spectrum.shape == (32,)
    assert spectrum[2:].argmax() + 3 == periods


def test_white_noise_is_flat_and_power_is_in_decibel() -> None:
    noise = np.random.default_rng(0).normal(size=(16, 64, 64))
    mean = np.mean([radial_spectrum(image) for image in noise], axis=0)
    assert np.abs(mean[3:] - mean[3:].mean()).max() < 1
    tenfold = radial_spectrum(10 * noise[0])
    np.testing.assert_allclose(tenfold - radial_spectrum(noise[0]), 20, atol=0.1)


def test_blur_is_a_distance() -> None:
    sharp = np.random.default_rng(0).random((8, 64, 64))
    blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2) + np.roll(sharp, (1, 1), (1, 2))) / 4
    a, b, c = (np.stack([radial_spectrum(image) for image in images]) for images in (sharp[:4], sharp[4:], blurred[4:]))
    assert spectrum_distance(a, a) == 0
    assert spectrum_distance(a, c) > 5 * spectrum_distance(a, b)


def test_a_rectangle_is_cut_to_its_middle() -> None:
    assert radial_spectrum(wave(6, 64, 90)).shape == (32,)
    assert np.isfinite(radial_spectrum(np.zeros((20, 30)))).all()
