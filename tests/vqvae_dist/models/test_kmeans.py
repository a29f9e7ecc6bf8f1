from __future__ import annotations

import torch

from vqvae_dist.models.kmeans import kmeans


def error(samples: torch.Tensor, centres: torch.Tensor) -> float:
    return float(torch.cdist(samples, centres).min(1).values.square().mean())


def clusters(K: int, each: int, *, background: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    middles = 5 * torch.randn(K, 3, generator=generator)
    samples = middles.repeat_interleave(each, 0) + 0.05 * torch.randn(K * each, 3, generator=generator)
    return torch.cat([samples, torch.zeros(background, 3)])


def test_well_separated_clusters_are_found() -> None:
    samples = clusters(12, 50)
    assert error(samples, kmeans(samples, 24, iterations=10)) < 3 * 0.05**2


def test_iterations_lower_the_error() -> None:
    samples = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    assert error(samples, kmeans(samples, 20, iterations=10)) < 0.95 * error(samples, kmeans(samples, 20, iterations=0))


def test_background_does_not_take_the_codes() -> None:
    samples = clusters(12, 20, background=2000)
    centres = kmeans(samples, 24, iterations=10)
    assert (centres.norm(dim=1) < 0.1).sum() <= 3
    assert error(samples[:240], centres) < 0.01 * samples[:240].var(0).sum()


def test_without_iterations_centres_are_samples() -> None:
    samples = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    centres = kmeans(samples, 10, iterations=0)
    assert (centres[:, None] == samples).all(2).any(1).all()


def test_fewer_samples_than_codes_give_finite_centres_at_samples() -> None:
    samples = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    centres = kmeans(samples, 16, iterations=10)
    assert centres.shape == (16, 4)
    assert torch.cdist(centres, samples).min(1).values.max() < 1e-3
    assert error(samples, centres) < 1e-6


def test_equal_samples_give_equal_centres() -> None:
    centres = kmeans(torch.full((50, 4), 0.7), 8, iterations=10)
    torch.testing.assert_close(centres, torch.full((8, 4), 0.7))


def test_empty_clusters_are_given_work() -> None:
    samples = clusters(30, 20)
    centres = kmeans(samples, 40, iterations=10)
    used = torch.bincount(torch.cdist(samples, centres).argmin(1), minlength=40) > 0
    assert used.float().mean() > 0.8


def test_result_is_a_function_of_the_samples() -> None:
    samples = clusters(12, 20)
    assert torch.equal(kmeans(samples, 16, iterations=5), kmeans(samples.clone(), 16, iterations=5))
