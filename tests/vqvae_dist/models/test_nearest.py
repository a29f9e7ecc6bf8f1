from __future__ import annotations

import pytest
import torch

from tests.vqvae_dist.models.quantizers import brute_force
from vqvae_dist.models import nearest as nearest_module
from vqvae_dist.models.nearest import CHUNK, first_highest, linear, nearest


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


@pytest.mark.parametrize("most", [16 * 7, 15], ids=["some rows", "less than one"])
def test_nearest_in_chunks_is_nearest_at_once(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    flat, codebook = torch.randn(1000, 4), torch.randn(16, 4)
    whole = nearest(flat, codebook)
    monkeypatch.setitem(CHUNK, "cpu", most)
    assert torch.equal(nearest(flat, codebook), whole)


@pytest.mark.parametrize("offset", [0.0, 8.0])
def test_a_surcharge_is_added_to_the_squared_distance(offset: float) -> None:
    torch.manual_seed(0)
    flat, codebook, surcharge = torch.randn(4000, 4) + offset, torch.randn(16, 4) + offset, 2 * torch.rand(16)
    cost = (flat.double()[:, None] - codebook.double()).square().sum(2) + surcharge.double()
    found = nearest(flat, codebook, surcharge)
    torch.testing.assert_close(cost.gather(1, found[:, None])[:, 0], cost.amin(1), rtol=0, atol=1e-4)
    assert (found != nearest(flat, codebook)).float().mean() > 0.1


def test_first_highest_is_argmax_whatever_the_numbers_and_whichever_place() -> None:
    scores = torch.randn(4096, 4096, generator=torch.Generator().manual_seed(0)).mul_(1e3).round_()  # many are equal
    scores[:100] = torch.tensor([-torch.inf, torch.inf, 0.0, -0.0])[torch.randint(4, (100, 4096))]
    assert torch.equal(first_highest(scores.clone()), scores.argmax(1))


@pytest.mark.parametrize("known", [True, False], ids=["by oneDNN", "without its operator"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_is_as_exact_as_its_numbers(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, known: bool) -> None:
    if not known:
        monkeypatch.setattr(nearest_module, "FAST_LINEAR", None)
    torch.manual_seed(0)
    z, weight, bias = torch.randn(100, 64, dtype=dtype), torch.randn(32, 64, dtype=dtype), torch.randn(32, dtype=dtype)
    wanted = z.double() @ weight.double().T + bias.double()
    found = linear(z, weight, bias)
    assert found.dtype == dtype
    assert (found - wanted).abs().max() < 64 * 8 * torch.finfo(dtype).eps  # of sums of 64 products of a few units


def test_outputs_that_are_no_numbers_get_a_code_of_the_codebook() -> None:
    """The loss tells of them; a code that does not exist would fail before it in a lookup."""
    flat = torch.full((3, 4), torch.nan)
    assert nearest(flat, torch.randn(16, 4)).max() < 16
