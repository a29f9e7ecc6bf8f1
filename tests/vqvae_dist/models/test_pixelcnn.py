from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vqvae_dist.models.receptive_field import receptive_field
from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.config_io import preset_layer, preset_names
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.pixelcnn import PixelCNN
from vqvae_dist.models.prior import code_nll

K = 7
GRIDS = [(6, 6), (5, 9), (9, 4), (1, 8), (8, 1), (1, 1)]
SHAPES: list[dict[str, Any]] = [
    {"kernel": 3, "layers": 3, "dilations": (1,), "attention": 0},
    {"kernel": 3, "layers": 4, "dilations": (1, 2, 4), "attention": 0},
    {"kernel": 5, "layers": 2, "dilations": (1, 2), "attention": 0},
    {"kernel": 7, "layers": 2, "dilations": (1,), "attention": 0},
    {"kernel": 3, "layers": 2, "dilations": (2,), "attention": 0},
    {"kernel": 3, "layers": 4, "dilations": (1, 2), "attention": 2},
    {"kernel": 5, "layers": 3, "dilations": (1, 2, 4), "attention": 1},
]


def make_model(**settings: Any) -> PixelCNN:
    """A small float64 PixelCNN with weights large enough that nothing it sees stays below rounding."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "codebook_size": K,
        "layers": 3,
        "hidden": 16,
        "kernel": 3,
        "dilations": (1, 2),
        "attention": 0,
    }
    defaults |= {"dropout": 0.0, "condition_position": True, "classes": 0}
    model = PixelCNN(**(defaults | settings)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def make_condition(batch: int) -> Condition:
    return Condition(torch.full((batch,), 0.3), torch.zeros(batch, dtype=torch.int64), torch.zeros(batch))


def influence(model: PixelCNN, grid: tuple[int, int]) -> Tensor:
    """Which cell changes which logits: (changed cell, cell of the logits), bool, from exact differences."""
    h, w = grid
    cells = h * w
    torch.manual_seed(1)
    seen = torch.zeros(cells, cells, dtype=torch.bool)
    for _ in range(3):  # a ReLU can hide a change at one place by chance
        codes = torch.randint(K, (1, h, w)).repeat(cells, 1, 1)
        changed = codes.clone()
        changed.view(cells, cells).diagonal().add_(torch.randint(1, K, (cells,))).remainder_(K)
        # Both as one batch of the same size: matrix products may round the rows of a batch differently.
        difference = model(changed, make_condition(cells)) != model(codes, make_condition(cells))
        seen |= difference.any(dim=1).view(cells, cells)
    return seen


@torch.no_grad()
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_logits_see_the_whole_past_within_reach_and_nothing_else(shape: dict[str, Any], grid: tuple[int, int]) -> None:
    h, w = grid
    model = make_model(**shape)
    seen = influence(model, grid)
    assert not seen.tril().any(), "a logit depends on its own code or a later one"
    for cell in range(h * w):
        expected = receptive_field(model, grid, divmod(cell, w)).flatten()
        assert torch.equal(seen[:, cell], expected), f"cell {divmod(cell, w)}"


def shipped_shapes() -> dict[str, dict[str, Any]]:
    """The shape of the prior in every preset that has one."""
    models = {name: preset_layer(name).values["model"] for name in preset_names()}
    names = ("kernel", "layers", "dilations", "attention")
    return {
        preset: {name: model.get(name, getattr(PixelCNNModelConfig(), name)) for name in names}
        for preset, model in models.items()
        if "layers" in model
    }


@torch.no_grad()
@pytest.mark.parametrize("preset", shipped_shapes())
@pytest.mark.parametrize("grid", [(6, 9), (7, 4)], ids=str)
def test_every_preset_sees_the_whole_past_and_nothing_else(preset: str, grid: tuple[int, int]) -> None:
    model = make_model(**shipped_shapes()[preset])
    past = torch.ones(grid[0] * grid[1], grid[0] * grid[1], dtype=torch.bool).triu(1)
    assert torch.equal(influence(model, grid), past)


@pytest.mark.parametrize(
    ("kernel", "dilations", "layers"), [(3, (1,), 4), (3, (1, 2, 4), 6), (5, (1, 2), 4), (7, (1,), 2)]
)
def test_no_blind_spot_within_reach(kernel: int, dilations: tuple[int, ...], layers: int) -> None:
    model = make_model(kernel=kernel, dilations=dilations, layers=layers)
    reach = 1 + sum(dilations[i % len(dilations)] * (kernel // 2) for i in range(layers))
    row, column, size = reach + 1, reach + 1, 2 * reach + 3
    seen = receptive_field(model, (size, size), (row, column))
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    above, left = row - rows, (columns - column).abs()
    # A path upwards may go sideways only while it has layers left, so the cone narrows by the first step alone.
    wanted = (above == 0) & (columns < column) & (left <= reach)
    wanted |= (above >= 1) & (above <= reach) & (left <= reach - 1)
    assert torch.equal(seen, wanted)


def test_attention_lets_a_small_kernel_see_everything_before() -> None:
    model = make_model(layers=1, dilations=(1,), attention=1)
    assert receptive_field(model, (9, 9), (8, 8)).sum() == 80
    assert receptive_field(make_model(layers=1, dilations=(1,)), (9, 9), (8, 8)).sum() < 10


@torch.no_grad()
def test_position_class_mirroring_and_coordinates_move_the_logits_only_when_asked_for() -> None:
    codes, plain = torch.zeros(1, 4, 4, dtype=torch.int64), make_condition(1)
    changes = {
        "position": plain._replace(position=torch.tensor([0.9])),
        "label": plain._replace(label=torch.tensor([1])),
        "no label": plain._replace(label=torch.tensor([-1])),
        "flipped": plain._replace(flipped=torch.tensor([1.0])),
    }
    bare = make_model(condition_position=False, condition_coordinates=False, condition_flipped=False)
    full = make_model(classes=2)
    for changed in changes.values():
        assert torch.equal(bare(codes, changed), bare(codes, plain))
        assert not torch.equal(full(codes, changed), full(codes, plain))
    coordinates = full.coordinates
    assert coordinates is not None
    assert coordinates(4, 4).flatten(2).unique(dim=2).shape[2] == 16


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"classes": 3, "attention": 2},
        {"condition_position": False, "condition_coordinates": False, "condition_flipped": False},
    ],
    ids=["position", "class and attention", "unconditional"],
)
def test_every_parameter_gets_a_gradient(settings: dict[str, Any]) -> None:
    model = make_model(**settings)
    code_nll(model(torch.randint(K, (2, 4, 5)), make_condition(2)), torch.randint(K, (2, 4, 5))).mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@torch.no_grad()
def test_dropout_is_an_input_and_acts_on_whole_channels() -> None:
    model = make_model(layers=2)
    codes, condition = torch.randint(K, (2, 4, 4)), make_condition(2)
    masks = torch.ones(2, 2, 16)
    assert torch.equal(model(codes, condition, masks), model(codes, condition))
    masks[1, 0, 3] = 0
    dropped, whole = model(codes, condition, masks), model(codes, condition)
    assert torch.equal(dropped[0], whole[0])
    assert not torch.equal(dropped[1], whole[1])


@torch.no_grad()
def test_an_impossible_code_has_a_finite_likelihood() -> None:
    logits = torch.zeros(1, 4, 1, 1)
    logits[0, 1] = -120
    nll = code_nll(logits, torch.ones(1, 1, 1, dtype=torch.int64)).item()
    assert nll == pytest.approx(120 + math.log(3))


@torch.no_grad()
@pytest.mark.parametrize("attention", [0, 2])
def test_compiled_without_graph_breaks_it_gives_the_same_logits(attention: int) -> None:
    model = make_model(attention=attention, classes=2).float()
    codes, condition = torch.randint(K, (2, 5, 6)), make_condition(2)
    masks = torch.bernoulli(torch.full((2, 3, 16), 0.5)) * 2
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(codes, condition, masks), model(codes, condition, masks))


@torch.no_grad()
def test_under_bfloat16_autocast_logits_come_out_in_float32() -> None:
    model = make_model(attention=2).float()
    codes, condition = torch.randint(K, (2, 5, 6)), make_condition(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(codes, condition)
    assert logits.dtype == torch.float32
    exact = model(codes, condition)
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be odd"):
        make_model(kernel=4)
