from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.vqvae_dist.models.quantizers import keys_of, make, outputs, statistics_of
from vqvae_dist.models.gradients import rotation, straight_through
from vqvae_dist.models.nearest import CHUNK


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0.0, 2.0, 4.0, 8.0])
def test_autocast_changes_nothing(distance: str, autocast: torch.dtype, given: torch.dtype, offset: float) -> None:
    """Where all outputs share an offset, a half-precision distance cancels: at 8, 98 % of bfloat16's codes differ."""
    quantizer, z = make(K=256, D=16, distance=distance), (0.3 * outputs(D=16, h=32, w=32) + offset).to(given)
    quantizer.weight.mul_(1.2).add_(offset)
    plain = quantizer(z.float(), keys_of(2))
    with torch.autocast("cpu", dtype=autocast):
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


def test_of_two_codes_that_are_as_near_the_more_frequent_one_is_taken() -> None:
    quantizer = make(K=2, D=4, rate=0.5)
    quantizer.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
    quantizer.counts.copy_(torch.tensor([1.0, 127.0]))
    quantizer.distortion.fill_(1.0)
    middle, near = torch.zeros(1, 4, 1, 1), torch.tensor([0.9, 0, 0, 0])[None, :, None, None]
    assert quantizer(middle).codes.item() == 1
    assert quantizer(near).codes.item() == 0
    quantizer.distortion.fill_(4.0)  # 7 bits, half of 4 each, are more than the 3.6 between the squared distances
    assert quantizer(near).codes.item() == 1


def test_a_code_that_nothing_chose_yet_can_be_reached() -> None:
    quantizer = make(K=2, D=4, rate=0.1)
    quantizer.counts.copy_(torch.tensor([0.0, 1e6]))
    quantizer.distortion.fill_(1.0)
    surcharge = quantizer.surcharge()
    assert surcharge is not None
    torch.testing.assert_close(surcharge[0].item(), 2.66, rtol=0, atol=0.01)  # log2(10^8) = 26.6 bits


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


def test_before_initialisation_a_gradient_codebook_gets_a_gradient_of_zero() -> None:
    quantizer = make(kind="gradient", init="kmeans")
    output = quantizer(outputs())
    assert output.codebook.item() == output.commitment.item() == 0
    output.codebook.backward()
    assert quantizer.weight.grad is not None
    assert not quantizer.weight.grad.any()


def test_a_rate_weighs_the_same_after_loading() -> None:
    one, other = make(rate=1.0, decay=0.5), make(rate=1.0, decay=0.5)
    for seed in range(3):
        one.update(statistics_of(one, outputs(seed=seed)))
    plain = make()
    plain.load_state_dict(one.state_dict(), strict=False)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(outputs()).codes, one(outputs()).codes)
    assert not torch.equal(plain(outputs()).codes, one(outputs()).codes)


def test_without_a_rate_there_is_nothing_more_to_store() -> None:
    assert make().state_dict().keys() == make(rate=1.0).state_dict().keys() - {"distortion"}


def test_initialised_codebook_is_ready_after_loading() -> None:
    one, other = make(init="kmeans"), make(init="kmeans")
    one.initialise(torch.randn(200, 4))
    other.load_state_dict(one.state_dict())
    assert other.is_ready
    assert torch.equal(other(outputs()).codes, one(outputs()).codes)


@pytest.mark.parametrize("init", ["normal", "kmeans", "data"])
def test_only_a_codebook_from_noise_is_ready_at_once(init: str) -> None:
    quantizer = make(init=init)
    assert quantizer.is_ready == bool(quantizer.ready) == (init == "normal")


def test_codes_from_noise_are_as_long_as_one() -> None:
    assert make(K=4096, D=16).weight.square().sum(1).mean().item() == pytest.approx(1.0, abs=0.02)


def test_commitment_is_the_mean_squared_distance_to_the_code() -> None:
    quantizer, z = make(), outputs()
    output = quantizer(z)
    torch.testing.assert_close(output.commitment, F.mse_loss(z, output.z_q))


def test_straight_through_gradient_is_the_identity() -> None:
    z = torch.randn(5, 3, requires_grad=True)
    codes, gradient = torch.randn(4, 3), torch.randn(5, 3)
    index = torch.tensor([0, 3, 1, 1, 2])
    value, errors = straight_through(z, codes, index)
    assert torch.equal(value, codes[index])
    value.backward(gradient, retain_graph=True)
    assert z.grad is not None
    assert torch.equal(z.grad, gradient)
    (to_z,) = torch.autograd.grad(errors.sum(), z)
    torch.testing.assert_close(errors.detach(), (z - codes[index]).square().sum(1).detach())
    torch.testing.assert_close(to_z, 2 * (z - codes[index]).detach())


def test_gradients_of_the_straight_through_step_are_those_of_differences() -> None:
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    codes, index = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda z: straight_through(z, codes, index)[1], z)


def test_rotation_gives_the_code_and_turns_the_gradient_by_the_angle_between() -> None:
    z = torch.randn(5, 3, requires_grad=True)
    code, gradient = torch.randn(5, 3), torch.randn(5, 3)
    index = torch.arange(5)
    value, errors = rotation(z, code, index)
    torch.testing.assert_close(errors, (z - code).square().sum(1))
    value.backward(gradient)
    torch.testing.assert_close(value.detach(), code, rtol=1e-5, atol=1e-5)
    scale = code.norm(dim=1) / z.detach().norm(dim=1)
    assert z.grad is not None
    torch.testing.assert_close(z.grad.norm(dim=1), gradient.norm(dim=1) * scale)
    # A gradient along the code comes out along z: the angle between gradient and code is kept.
    (turned,) = torch.autograd.grad(rotation(z, code, index)[0], z, code)
    torch.testing.assert_close(F.cosine_similarity(turned, z.detach()), torch.ones(5))


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
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
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
    assert positions * 8 <= largest.elements <= CHUNK["cpu"] < positions * 512
