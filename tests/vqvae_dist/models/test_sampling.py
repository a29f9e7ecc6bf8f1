from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from vqvae_dist.models.cached_pixelcnn import CachedPixelCNN
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.draw import Filter, draw_codes, uniform_numbers
from vqvae_dist.models.pixelcnn import PixelCNN
from vqvae_dist.models.prior import Prior
from vqvae_dist.models.sampling import sample

K = 11
SHAPES: list[dict[str, Any]] = [
    {"kernel": 3, "layers": 3, "dilations": (1,), "attention": 0},
    {"kernel": 3, "layers": 4, "dilations": (1, 2, 4), "attention": 0},
    {"kernel": 5, "layers": 3, "dilations": (3, 1), "attention": 0},
    {"kernel": 7, "layers": 2, "dilations": (1,), "attention": 0},
    {"kernel": 3, "layers": 4, "dilations": (1, 2), "attention": 2},
    {"kernel": 3, "layers": 2, "dilations": (1,), "attention": 1, "condition_coordinates": False},
    {"kernel": 3, "layers": 2, "dilations": (1,), "attention": 0, "condition_position": False,
     "condition_coordinates": False, "condition_flipped": False, "classes": 0},
]  # fmt: skip
GRIDS = [(6, 7), (1, 5), (5, 1), (9, 3)]


def make_model(dtype: torch.dtype, **settings: Any) -> PixelCNN:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "codebook_size": K,
        "layers": 3,
        "hidden": 8,
        "kernel": 3,
        "dilations": (1, 2),
        "attention": 0,
    }
    defaults |= {"dropout": 0.0, "condition_position": True, "classes": 2}
    model = PixelCNN(**(defaults | settings)).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def make_condition(batch: int) -> Condition:
    return Condition(torch.linspace(0, 1, batch), torch.arange(batch) % 3 - 1, torch.arange(batch).float() % 2)


@torch.no_grad()
def sample_naively(model: Prior, *, grid: tuple[int, int], condition: Condition, seed: int, **filters: Any) -> Tensor:
    """What sampling means: a whole forward pass for every cell."""
    h, w = grid
    batch = len(condition.position)
    codes = torch.zeros(batch, h, w, dtype=torch.int64)
    uniform = uniform_numbers(seed, range(batch), h * w)
    for cell in range(h * w):
        row, column = divmod(cell, w)
        logits = model(codes, condition)[:, :, row, column]
        codes[:, row, column] = draw_codes(logits, uniform[:, cell], Filter(**filters))
    return codes


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_cached_sampling_draws_the_codes_of_naive_sampling(shape: dict[str, Any], grid: tuple[int, int]) -> None:
    model, condition = make_model(torch.float64, **shape), make_condition(3)
    cached = sample(model, grid=grid, condition=condition, seed=5)
    assert torch.equal(cached, sample_naively(model, grid=grid, condition=condition, seed=5))


@pytest.mark.parametrize("filters", [{"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7}], ids=str)
def test_filters_act_alike_in_cached_and_naive_sampling(filters: dict[str, Any]) -> None:
    model, condition = make_model(torch.float64), make_condition(4)
    cached = sample(model, grid=(6, 6), condition=condition, seed=1, **filters)
    assert torch.equal(cached, sample_naively(model, grid=(6, 6), condition=condition, seed=1, **filters))
    assert not torch.equal(cached, sample(model, grid=(6, 6), condition=condition, seed=1))


@torch.inference_mode()
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_cached_logits_agree_with_a_forward_pass_in_float32(shape: dict[str, Any]) -> None:
    model, condition = make_model(torch.float32, **shape), make_condition(2)
    codes = torch.randint(K, (2, 7, 9), generator=torch.Generator().manual_seed(3))
    cached, found = CachedPixelCNN(model, (7, 9), condition), torch.zeros(2, K, 7, 9)
    for row in range(7):
        cached.start_row(codes[:, row - 1] if row else None)
        for column in range(9):
            found[:, :, row, column] = cached.logits()
            cached.accept(codes[:, row, column])
    torch.testing.assert_close(found, model(codes, condition), rtol=1e-5, atol=1e-5)


def test_a_sample_does_not_depend_on_what_is_drawn_beside_it() -> None:
    model, condition = make_model(torch.float64, attention=2), make_condition(5)
    together = sample(model, grid=(5, 4), condition=condition, seed=9)
    part = Condition(*(values[3:] for values in condition))
    assert torch.equal(sample(model, grid=(5, 4), condition=part, seed=9, first_sample=3), together[3:])


def test_the_seed_decides_the_samples() -> None:
    model, condition = make_model(torch.float32), make_condition(4)
    first = sample(model, grid=(4, 4), condition=condition, seed=1)
    assert torch.equal(first, sample(model, grid=(4, 4), condition=condition, seed=1))
    assert not torch.equal(first, sample(model, grid=(4, 4), condition=condition, seed=2))


def test_progress_sees_every_row() -> None:
    rows: list[int] = []

    def watched(all_rows: range) -> Iterator[int]:
        for row in all_rows:
            yield row
            rows.append(row)

    sample(make_model(torch.float32), grid=(3, 2), condition=make_condition(1), seed=0, progress=watched)
    assert rows == [0, 1, 2]
