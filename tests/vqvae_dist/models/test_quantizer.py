from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vqvae_dist.models.nearest import CHUNK, nearest
from vqvae_dist.models.quantizer import REVIVALS, CodeStatistics, Quantizer, rotation, straight_through


def make(K: int = 16, D: int = 4, **options: Any) -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(K, D, **{"init": "normal", "revive_below": 0.0, **options})


def outputs(B: int = 2, D: int = 4, h: int = 6, w: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(B, D, h, w, generator=torch.Generator().manual_seed(seed))


def keys_of(B: int, first: int = 0) -> Tensor:
    return torch.arange(first, first + B, dtype=torch.int64) * 7919


def statistics_of(quantizer: Quantizer, z: Tensor, keys: Tensor | None = None) -> CodeStatistics:
    statistics = quantizer(z, keys_of(len(z)) if keys is None else keys).statistics
    assert isinstance(statistics, CodeStatistics)
    return statistics


def brute_force(flat: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(flat.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


@pytest.mark.parametrize("offset", [0.0, 2.0, 8.0, 100.0])
def test_nearest_is_that_of_float64_even_far_from_zero(offset: float) -> None:
    torch.manual_seed(0)
    flat, codebook = 0.3 * torch.randn(4000, 16) + offset, 0.3 * torch.randn(256, 16) + offset
    found, wanted = nearest(flat, codebook), brute_force(flat, codebook)
    distance = (flat.double() - codebook.double()[found]).norm(dim=1)
    best = (flat.double() - codebook.double()[wanted]).norm(dim=1)
    assert (found == wanted).float().mean() > 0.999
    torch.testing.assert_close(distance, best, rtol=1e-5, atol=1e-6)  # where they differ, it is a tie


def test_half_precision_search_would_have_failed_this_test() -> None:
    torch.manual_seed(0)
    flat, codebook = 0.3 * torch.randn(4000, 16) + 8.0, 0.3 * torch.randn(256, 16) + 8.0
    z, e = flat.bfloat16(), codebook.bfloat16()
    careless = (z.square().sum(1, keepdim=True) + e.square().sum(1) - 2 * z @ e.T).argmin(1)
    assert (careless == brute_force(flat, codebook)).float().mean() < 0.2


def test_nearest_in_chunks_is_nearest_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    flat, codebook = torch.randn(1000, 4), torch.randn(16, 4)
    whole = nearest(flat, codebook)
    monkeypatch.setattr("vqvae_dist.models.nearest.CHUNK", 16 * 7)
    assert torch.equal(nearest(flat, codebook), whole)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(distance: str, autocast: torch.dtype | None) -> None:
    quantizer, z = make(distance=distance), outputs() + 4
    plain = quantizer(z, keys_of(2))
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        other = quantizer(z, keys_of(2))
    assert torch.equal(other.codes, plain.codes)
    assert torch.equal(other.z_q, plain.z_q)
    assert all(torch.equal(a, b) for a, b in zip(other.statistics, plain.statistics, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_quantized_in_float32(dtype: torch.dtype) -> None:
    quantizer, z = make(), (outputs() + 4).to(dtype)
    half, single = quantizer(z, keys_of(2)), quantizer(z.float(), keys_of(2))
    assert torch.equal(half.codes, single.codes)
    assert half.z_q.dtype == half.commitment.dtype == half.statistics.sums.dtype == torch.float32


def test_constant_background_neither_overflows_nor_loses_digits() -> None:
    quantizer = make(K=8, D=4)
    z = outputs(B=64, h=64, w=64)
    background = torch.rand(64, 1, 64, 64, generator=torch.Generator().manual_seed(2)) < 0.9
    z = torch.where(background, torch.tensor([0.3, 1.5, -0.7, 0.1])[:, None, None], z)
    with torch.autocast("cpu", dtype=torch.float16):
        statistics = statistics_of(quantizer, z)
    codes = quantizer(z).codes
    flat = z.permute(0, 2, 3, 1).reshape(-1, 4).double()
    sums = torch.zeros(8, 4, dtype=torch.float64).index_add_(0, codes.flatten(), flat)
    assert statistics.counts.sum() == flat.shape[0]
    # 240 thousand equal numbers added up one after another in float32 are off by a thousandth and more.
    torch.testing.assert_close(statistics.sums.double(), sums, rtol=1e-5, atol=1e-2)
    quantizer.update(statistics)
    assert torch.isfinite(quantizer.weight).all()


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


@pytest.mark.parametrize("kind", ["ema", "gradient"])
@pytest.mark.parametrize("init", ["normal", "kmeans"])
def test_forward_changes_nothing(kind: str, init: str) -> None:
    quantizer = make(kind=kind, init=init)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.train()
    first = quantizer(outputs(), keys_of(2), 8)
    second = quantizer(outputs(), keys_of(2), 8)
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())
    assert torch.equal(first.z_q, second.z_q)


def test_before_initialisation_outputs_pass_and_are_sampled_by_key() -> None:
    quantizer, z = make(init="kmeans"), outputs(B=4)
    output = quantizer(z, keys_of(4), 7)
    assert torch.equal(output.z_q, z)
    assert output.statistics is None
    assert output.samples is not None
    assert output.samples.shape == (4, 7, 4)
    alone = quantizer(z[2:3], keys_of(4)[2:3], 7).samples
    assert alone is not None
    assert torch.equal(alone[0], output.samples[2])


def test_initialised_codebook_is_ready_after_loading() -> None:
    one, other = make(init="kmeans"), make(init="kmeans")
    one.initialise(torch.randn(200, 4))
    other.load_state_dict(one.state_dict())
    assert other.is_ready
    assert torch.equal(other(outputs()).codes, one(outputs()).codes)


def test_straight_through_gradient_is_the_identity() -> None:
    z = torch.randn(5, 3, requires_grad=True)
    code, gradient = torch.randn(5, 3), torch.randn(5, 3)
    value = straight_through(z, code)
    value.backward(gradient)
    torch.testing.assert_close(value.detach(), code)
    assert torch.equal(z.grad, gradient)


def test_rotation_gives_the_code_and_turns_the_gradient_by_the_angle_between() -> None:
    z = torch.randn(5, 3, requires_grad=True)
    code, gradient = torch.randn(5, 3), torch.randn(5, 3)
    value = rotation(z, code)
    value.backward(gradient)
    torch.testing.assert_close(value.detach(), code, rtol=1e-5, atol=1e-5)
    scale = code.norm(dim=1) / z.detach().norm(dim=1)
    torch.testing.assert_close(z.grad.norm(dim=1), gradient.norm(dim=1) * scale)
    # A gradient along the code comes out along z: the angle between gradient and code is kept.
    z.grad = None
    rotation(z, code).backward(code)
    torch.testing.assert_close(F.cosine_similarity(z.grad, z.detach()), torch.ones(5))


def test_cosine_codes_are_unit_vectors_nearest_by_angle() -> None:
    quantizer = make(init="data", distance="cosine")
    quantizer.initialise(F.normalize(outputs().permute(0, 2, 3, 1).reshape(-1, 4), dim=1))
    z = 10 * outputs(seed=3)
    output = quantizer(z, keys_of(2))
    flat = F.normalize(z.permute(0, 2, 3, 1).reshape(-1, 4), dim=1)
    assert torch.equal(output.codes.flatten(), (flat @ quantizer.weight.T).argmax(1))
    quantizer.update(output.statistics)
    torch.testing.assert_close(quantizer.weight.norm(dim=1), torch.ones(16))


def test_gradient_codebook_follows_the_codebook_loss_alone() -> None:
    quantizer = make(kind="gradient")
    z = outputs().requires_grad_()
    output = quantizer(z, keys_of(2))
    output.codebook.backward()
    assert z.grad is None
    chosen = torch.bincount(output.codes.flatten(), minlength=16) > 0
    assert quantizer.weight.grad is not None
    assert torch.equal(quantizer.weight.grad.abs().sum(1) > 0, chosen)
    before = quantizer.weight.detach().clone()
    quantizer.update(output.statistics)
    assert torch.equal(quantizer.weight, before)  # averages are kept for revival only


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_of_positions_times_codes_exists() -> None:
    quantizer, z = make(K=512, D=8), outputs(B=1, D=8, h=128, w=128)
    with LargestTensor() as largest:
        output = quantizer(z.requires_grad_(), keys_of(1))
        (output.z_q.sum() + output.commitment).backward()
        quantizer.update(output.statistics)
    positions = 128 * 128
    assert positions * 8 <= largest.elements <= CHUNK < positions * 512


def mri_like(seed: int, *, tissues: int = 200, N: int = 4000) -> Tensor:
    """60 % background at one point, the rest in clusters: (1, 8, 1, N)."""
    clusters = torch.randn(tissues, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed + 1)
    chosen = clusters[torch.randint(tissues, (N,), generator=generator)]
    flat = chosen + 0.05 * torch.randn(N, 8, generator=generator)
    flat[: int(0.6 * N)] = 0.01 * torch.randn(int(0.6 * N), 8, generator=generator)
    return flat.T[None, :, None, :]


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
