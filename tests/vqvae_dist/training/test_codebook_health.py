from __future__ import annotations

import torch
from torch import Tensor

from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.data.order import SampleOrder
from vqvae_dist.models.fsq import FSQ
from vqvae_dist.models.quantizer import CodeStatistics, Quantizer
from vqvae_dist.training.codebook_health import CodebookHealth

K, D, CELLS = 8, 2, 128


def statistics(quantizer: Quantizer, codes: Tensor) -> CodeStatistics:
    """Of encoder outputs that lie exactly on their codes."""
    counts = torch.bincount(codes, minlength=K).float()
    nothing = torch.full((4,), -torch.inf), torch.zeros(4, D)
    return CodeStatistics(counts, counts[:, None] * quantizer.weight, torch.tensor(2.0), *nothing)


def health(decay: float = 0.0) -> CodebookHealth:
    """Of 8 codes on a circle, in an epoch of two steps."""
    quantizer = Quantizer(K, D, init="normal", decay=decay)
    angles = torch.arange(K) * 2 * torch.pi / K
    quantizer.weight.copy_(torch.stack([angles.cos(), angles.sin()], dim=1))
    return CodebookHealth(quantizer, SampleOrder((8,), seed=0, batch_size=4))


def test_use_is_counted_over_an_epoch_and_a_collapse_is_said_once() -> None:
    followed = health()
    low, high, few = torch.arange(CELLS) % 4, 4 + torch.arange(CELLS) % 4, torch.arange(CELLS) % 3
    told = [followed.after(step, statistics(followed.quantizer, codes)) for step, codes in enumerate(
        [low, high, few, few, few, few, low, high, few, few]
    )]  # fmt: skip
    used = [report.values.get("codes_used_epoch") for report in told]
    assert used == [None, 1, 1, 3 / 8, 3 / 8, 3 / 8, 3 / 8, 1, 1, 3 / 8]
    assert [bool(report.warning) for report in told] == [False, False, False, True, *[False] * 5, True]
    assert "only 3 of 8 codes" in told[3].warning
    assert told[0].values["quantization_error"] == 2.0 / CELLS


def test_an_epoch_of_few_cells_is_not_judged() -> None:
    followed = health()
    few = torch.zeros(CELLS // 4, dtype=torch.int64)
    assert not any(followed.after(step, statistics(followed.quantizer, few)).warning for step in range(4))


def test_a_codebook_is_judged_once_its_averages_have_settled() -> None:
    followed, few = health(decay=0.75), torch.zeros(CELLS, dtype=torch.int64)
    warned = [bool(followed.after(step, statistics(followed.quantizer, few)).warning) for step in range(10)]
    assert warned == [step == 7 for step in range(10)]


def test_memory_goes_on_in_the_middle_of_an_epoch() -> None:
    first, second = health(), health()
    low, high = torch.arange(CELLS) % 4, 4 + torch.arange(CELLS) % 4
    first.after(0, statistics(first.quantizer, low))
    for name, tensor in first.memory.items():
        second.memory[name].copy_(tensor)
    assert second.after(1, statistics(second.quantizer, high)).values["codes_used_epoch"] == 1


def test_dead_codes_and_runaways_are_counted() -> None:
    followed = health()
    followed.quantizer.weight[7] = torch.tensor([0.0, 50.0])
    followed.quantizer.counts[2:4] = 0.1
    values = followed.after(0, statistics(followed.quantizer, torch.arange(CELLS) % 7)).values
    assert (values["codes_dead"], values["codes_runaway"]) == (2, 1)


def test_of_a_fixed_grid_no_runaways_are_counted_and_no_setting_without_effect_is_advised() -> None:
    grid = FSQ(K, D + 1)
    grid.decay = 0.0
    followed, codes = CodebookHealth(grid, SampleOrder((8,), seed=0, batch_size=8)), torch.zeros(CELLS).long()
    counts = torch.bincount(codes, minlength=K).float()
    nothing = torch.full((4,), -torch.inf), torch.zeros(4, D + 1)
    seen = CodeStatistics(counts, counts[:, None] * grid.weight, torch.tensor(2.0), *nothing)
    report = [followed.after(step, seen) for step in range(2)][-1]
    assert "codes_runaway" not in report.values
    assert report.warning.endswith("in the last epoch; try a smaller model.codebook_size")


def test_a_collapsed_training_says_so_on_the_console_and_in_its_summary(trainer: Trainer) -> None:
    collapsing = {
        "model.quantizer.init": "normal", "model.quantizer.init_after": 0, "model.quantizer.revive_below": 0.0,
        "model.codebook_size": 64, "schedule.steps": 16, "data.crop": 40,
    }  # fmt: skip
    ended = trainer(collapsing)
    assert ended.status == 0
    assert ended.text.count("the codebook has collapsed") == 1
    summary = trainer.run.read_summary() or {}
    assert [warning.split(":")[1] for warning in summary["warnings"]] == [" the codebook has collapsed"]
    rows = trainer.run.read_metrics()
    assert all(row["train/codes_used_epoch"] < 0.5 for row in rows if row["global_step"] >= 3)
    assert {"train/codes_dead", "train/codes_runaway", "train/revived", "train/quantization_error"} <= rows[0].keys()


def test_a_training_logs_its_use_and_goes_on_in_an_epoch(trainer: Trainer) -> None:
    whole = trainer({"optim.milestones": [3]})
    assert "collapsed" not in whole.text, "too early to tell"
    rows = trainer.run.read_metrics()
    trainer.run = type(trainer.run)(trainer.folder / "again")
    trainer({"optim.milestones": [3], "schedule.steps": 4})
    assert trainer({"optim.milestones": [3], "schedule.steps": 8}).status == 0
    again = trainer.run.read_metrics()
    for name in ("train/codes_used_epoch", "train/codes_dead", "train/revived"):
        assert [row.get(name) for row in again] == [row.get(name) for row in rows]
    assert rows[-1]["train/codes_used_epoch"] > 0
