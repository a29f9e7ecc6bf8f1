from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.vqvae_dist.models.quantizers import brute_force, keys_of, make, mri_like, outputs, statistics_of
from vqvae_dist.models.quantizer import REVIVALS, Quantizer


def reference_update(quantizer: Quantizer, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, sums and codes after one step, by loops in float64 (van den Oord et al. 2017, appendix A.1)."""
    flat = z.permute(0, 2, 3, 1).reshape(-1, quantizer.D).double()
    chosen = brute_force(flat, quantizer.weight)
    counts, sums = quantizer.counts.double(), quantizer.sums.double()
    for k in range(quantizer.K):
        members = flat[chosen == k]
        counts[k] = quantizer.decay * counts[k] + (1 - quantizer.decay) * len(members)
        sums[k] = quantizer.decay * sums[k] + (1 - quantizer.decay) * members.sum(0)
    return counts, sums, sums / counts[:, None]


def test_update_is_the_moving_average_of_counts_and_sums() -> None:
    quantizer, z = make(decay=0.9), outputs()
    for seed in range(5):
        z = outputs(seed=seed)
        counts, sums, weight = reference_update(quantizer, z)
        quantizer.update(statistics_of(quantizer, z))
        torch.testing.assert_close(quantizer.counts.double(), counts, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(quantizer.sums.double(), sums, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(quantizer.weight.double(), weight, rtol=1e-4, atol=1e-5)


def test_distortion_is_the_moving_average_of_the_squared_distance() -> None:
    quantizer, wanted = make(decay=0.9, rate=0.1), 0.0
    for seed in range(3):
        z = outputs(seed=seed)
        output = quantizer(z, keys_of(2))
        wanted = 0.9 * wanted + 0.1 * (z - output.z_q).square().sum(1).mean().item()
        quantizer.update(output.statistics)
        assert quantizer.distortion.item() == pytest.approx(wanted)


def test_a_rate_gives_fewer_bits_and_a_smaller_error_than_fewer_codes() -> None:
    bits, error = {}, {}
    for K, rate in ((48, 0.0), (64, 1.0)):
        quantizer = make(K=K, D=2, init="kmeans", decay=0.8, rate=rate)
        quantizer.initialise(two_gaussians(0)[0, :, 0].T)
        for seed in range(60):
            quantizer.update(statistics_of(quantizer, two_gaussians(seed)))
        z = two_gaussians(100)
        output = quantizer(z)
        share = torch.bincount(output.codes.flatten(), minlength=K) / output.codes.numel()
        bits[rate] = -torch.special.xlogy(share, share).sum().item() / math.log(2)
        error[rate] = (output.z_q - z).square().mean().item()
    assert bits[1.0] < bits[0.0] - 0.1  # 2.86 and 2.99
    assert error[1.0] < 0.95 * error[0.0]


def two_gaussians(seed: int) -> Tensor:
    """60 % background within 0.03, the rest within 1: (1, 2, 1, 4000)."""
    z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(seed))
    z[:2400] *= 0.03
    return z.T[None, :, None, :]


def test_update_agrees_with_vector_quantize_pytorch() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    quantizer = make(decay=0.8)
    oracle = library.VectorQuantize(
        dim=4,
        codebook_size=16,
        decay=0.8,
        eps=1e-9,
        threshold_ema_dead_code=0,
        rotation_trick=False,
        sync_codebook=False,
    )
    book = oracle._codebook
    book.embed.data.copy_(quantizer.weight[None])
    book.embed_avg.data.copy_(quantizer.sums[None])
    book.cluster_size.data.copy_(quantizer.counts[None])
    oracle.train()
    for seed in range(10):
        z = outputs(seed=seed)
        quantized, codes, _ = oracle(z.permute(0, 2, 3, 1).reshape(1, -1, 4))
        output = quantizer(z, keys_of(2))
        assert torch.equal(output.codes.flatten(), codes.flatten())
        torch.testing.assert_close(output.z_q.permute(0, 2, 3, 1).reshape(1, -1, 4), quantized, rtol=1e-5, atol=1e-6)
        quantizer.update(output.statistics)
        torch.testing.assert_close(quantizer.weight, book.embed[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(quantizer.counts, book.cluster_size[0], rtol=1e-5, atol=1e-6)


def test_unused_code_keeps_its_place() -> None:
    quantizer = make(decay=0.5)
    quantizer.weight[3] = quantizer.sums[3] = 1000.0
    before = quantizer.weight[3].clone()
    for seed in range(60):
        quantizer.update(statistics_of(quantizer, outputs(seed=seed)))
    torch.testing.assert_close(quantizer.weight[3], before)


def test_statistics_of_micro_batches_add_up_to_those_of_the_batch() -> None:
    quantizer, z, keys = make(), outputs(B=8), keys_of(8)
    whole = statistics_of(quantizer, z, keys)
    parts = [statistics_of(quantizer, z[i : i + 2], keys[i : i + 2]) for i in range(0, 8, 2)]
    total = sum(parts[1:], start=parts[0])
    assert torch.equal(total.counts, whole.counts)
    torch.testing.assert_close(total.sums, whole.sums)
    torch.testing.assert_close(total.error, whole.error)
    assert torch.equal(total.scores, whole.scores)
    assert torch.equal(total.candidates, whole.candidates)


def test_dead_codes_move_to_badly_quantized_outputs_with_count_and_sum() -> None:
    quantizer = make(decay=0.5, revive_below=0.5)
    far = torch.tensor([50.0, 50.0, 50.0, 50.0])
    quantizer.weight[:2] = quantizer.sums[:2] = far + 1000  # never chosen
    quantizer.counts[:2] = 0.1
    z = outputs()
    z[0, :, 0, 0], z[1, :, 1, 1] = far, -far
    quantizer.update(statistics_of(quantizer, z))
    assert {tuple(code) for code in quantizer.weight[:2].tolist()} == {tuple(far.tolist()), tuple((-far).tolist())}
    torch.testing.assert_close(quantizer.sums[:2], quantizer.weight[:2] * quantizer.counts[:2, None])
    assert (quantizer.counts[:2] == 1.0).all()
    assert quantizer.revived >= 2


def test_no_more_codes_are_revived_a_step_than_are_offered() -> None:
    quantizer = make(K=4 * REVIVALS, revive_below=10.0)
    quantizer.update(statistics_of(quantizer, outputs(h=32, w=32)))
    assert quantizer.revived == REVIVALS


def test_exactly_quantized_outputs_are_no_place_for_dead_codes() -> None:
    quantizer = make(decay=0.5, revive_below=0.5)
    z = quantizer.weight[0][None, :, None, None].expand(2, 4, 6, 5).clone()
    before = quantizer.weight.clone()
    quantizer.update(statistics_of(quantizer, z))
    assert quantizer.revived == 0
    torch.testing.assert_close(quantizer.weight, before)


def test_codebook_does_not_collapse_onto_the_background() -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(256, 8)
    start = quantizer(mri_like(0), keys_of(1), 2000).samples
    assert start is not None
    quantizer.initialise(start[0])
    for step in range(1, 100):
        output = quantizer(mri_like(step), keys_of(1, step))
        quantizer.update(output.statistics)
    used = torch.bincount(quantizer(mri_like(1000)).codes.flatten(), minlength=256) > 0
    assert used.float().mean() > 0.6
    assert output.commitment < 0.02  # of a variance of 0.4 in all


def test_codebook_from_noise_is_rescued_by_revival() -> None:
    torch.manual_seed(0)
    shares = {}
    for revive_below in (0.0, 0.5):
        quantizer = Quantizer(256, 8, init="normal", decay=0.9, revive_below=revive_below)
        quantizer.weight += 3.0
        quantizer.sums.copy_(quantizer.weight)
        for step in range(60):
            quantizer.update(statistics_of(quantizer, mri_like(step), keys_of(1, step)))
        codes = quantizer(mri_like(1000)).codes.flatten()
        shares[revive_below] = float((torch.bincount(codes, minlength=256) > 0).float().mean())
    assert shares[0.0] < 0.1
    assert shares[0.5] > 0.5


@pytest.mark.parametrize("init", ["data", "kmeans"])
def test_first_codes_are_samples_or_the_means_of_clusters(init: str) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[5.0, 0, 0, 0], [0, 5.0, 0, 0]])
    samples = (centres[:, None] + 0.1 * torch.randn(2, 50, 4, generator=generator)).reshape(-1, 4)
    quantizer = make(2, 4, init=init)
    quantizer.initialise(samples)
    drawn = [bool((samples == code).all(1).any()) for code in quantizer.weight]
    means = samples.reshape(2, 50, 4).mean(1)
    assert drawn == [init == "data"] * 2
    assert torch.cdist(quantizer.weight, means).min(1).values.max() < (0.5 if init == "data" else 1e-5)
    assert torch.equal(quantizer.counts, torch.ones(2))
    assert torch.equal(quantizer.sums, quantizer.weight)


def test_a_code_at_the_limit_lives_and_a_revived_one_is_well_above_it() -> None:
    quantizer, z = make(4, 4, revive_below=2.0, decay=0.5), outputs()
    statistics = statistics_of(quantizer, z)._replace(counts=torch.tensor([3.0, 2.5, 3.0, 3.0]))
    quantizer.update(statistics)  # 0.5 * 1 + 0.5 * count: at the limit, below it, and at it
    assert quantizer.counts.tolist() == [2.0, 4.0, 2.0, 2.0]
    torch.testing.assert_close(quantizer.sums[1], 4.0 * quantizer.weight[1])
    assert quantizer.revived == 1


def test_outputs_are_offered_to_dead_codes_in_proportion_to_their_error() -> None:
    """Half of the outputs have nine times the error of the others, so nine in ten of those offered are theirs."""
    quantizer = make(K=1, D=1)
    quantizer.weight.zero_()
    z = torch.ones(1, 1, 64, 64)
    z[..., 32:] = 3.0
    draws = [statistics_of(quantizer, z, keys_of(1, first)).candidates.flatten() for first in range(20)]
    offered = torch.cat(draws)
    assert len(offered) == 20 * REVIVALS
    assert (offered == 3.0).double().mean().item() == pytest.approx(0.9, abs=0.03)
