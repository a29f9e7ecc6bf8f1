"""What a training step sends between processes, and how all of them stop together."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.processes import finish, run, start
from tests.trainings import Settings, command_line, settings_of, train, train_in_process
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder

pytestmark = pytest.mark.slow  # several processes, each of which imports torch

SHORT = {"schedule.steps": 8, "schedule.validate_every": 8, "schedule.checkpoint_every": 8}


def train_and_count(stage: str, settings: Settings, path: str) -> None:
    """Train, and write down which collectives every step called, and how many all_reduces the backend saw."""
    import torch
    from torch import distributed

    from vqvae_dist.training import pixelcnn, vqvae

    calls: list[str] = []
    for name in ("all_reduce", "broadcast", "all_gather", "reduce", "barrier", "all_gather_into_tensor", "scatter"):
        original = getattr(distributed, name)

        def counted(*args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
            calls.append(_name)
            return _original(*args, **kwargs)

        setattr(distributed, name, counted)
    kind = vqvae.VQVAEStage if stage == "train-vqvae" else pixelcnn.PixelCNNStage
    step_of, steps = kind.train_step, []

    def train_step(self: Any, step: int, batch: Any) -> Any:
        calls.clear()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            report = step_of(self, step, batch)
        sent = sum(event.count for event in profile.key_averages() if event.key == "gloo:all_reduce")
        steps.append([list(calls), sent])
        return report

    kind.train_step = train_step  # type: ignore[method-assign]  # in this process alone
    train(stage, settings)
    if distributed.is_initialized() is False:
        Path(path).write_text(json.dumps(steps))


@pytest.mark.parametrize("stage", ["train-vqvae", "train-pixelcnn"])
def test_a_step_agrees_and_then_sends_everything_in_one_all_reduce(
    tmp_path: Path, packed: Path, codes: Path, stage: str
) -> None:
    data = packed if stage == "train-vqvae" else codes
    settings = settings_of(stage, data, tmp_path / "run", {**SHORT, "schedule.micro_batch_size": 2})
    run(train_and_count, stage, settings, str(tmp_path / "calls"), processes=2, log=tmp_path / "log")
    steps = json.loads((tmp_path / "calls").read_text())
    for number, (calls, sent) in enumerate(steps):
        if stage == "train-vqvae" and number == 3:  # the codebook is initialised here
            assert calls == ["all_reduce", "all_reduce", "all_reduce", "broadcast", "broadcast", "broadcast"]
        else:
            assert calls == ["all_reduce", "all_reduce"], f"step {number}"
            assert sent == 2, f"step {number}: nothing is sent beside the flags and one sum of all the rest"


def train_with_a_bad_slice(stage: str, settings: Settings, bad_rank: int) -> None:
    """Train with one process's fifth batch spoilt by a NaN; keep what weights were before and after."""
    from vqvae_dist.cli import main
    from vqvae_dist.data.slices import SliceBatch, TrainingSlices

    original = TrainingSlices.__getitem__

    def spoilt(self: TrainingSlices, step: int) -> SliceBatch:
        batch = original(self, step)
        if step == 4 and self.rank == bad_rank:
            batch.images[1, 0, 5, 5] = math.nan
        return batch

    TrainingSlices.__getitem__ = spoilt  # type: ignore[method-assign]  # in this process alone
    raise SystemExit(main(command_line(stage, settings)))


@pytest.mark.parametrize(("processes", "bad_rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_loss_that_is_not_finite_stops_every_process_before_the_update(
    tmp_path: Path, packed: Path, processes: int, bad_rank: int
) -> None:
    changes = {"schedule.steps": 8, "schedule.checkpoint_every": 1, "schedule.validate_every": 100}
    settings = settings_of("train-vqvae", packed, tmp_path / "run", changes)
    log = tmp_path / "log"
    started = start(train_with_a_bad_slice, "train-vqvae", settings, bad_rank, processes=processes, log=log)
    assert finish(started, log=log) == [1] * processes
    text = log.read_text()
    said = re.findall(r"error: step 4: the loss is not finite \(nan\); slices ((?:40x40_uint8:\d+(?:, )?)+)", text)
    assert len(said) == processes, text
    assert len(", ".join(said).split(", ")) == 8
    assert "Traceback" not in text
    run_folder = RunFolder(tmp_path / "run")
    assert (run_folder.checkpoints / "latest").read_text() == "step_00000004\n"
    assert len(run_folder.read_metrics()) == 4
    summary = read_json(run_folder.summary_file)
    assert summary["state"] == "failed"
    assert "the loss is not finite" in summary["reason"]


def test_processes_that_do_not_divide_the_batch_are_refused_by_all(tmp_path: Path, packed: Path) -> None:
    settings = settings_of("train-vqvae", packed, tmp_path / "run", {"schedule.batch_size": 9})
    log = tmp_path / "log"
    statuses = finish(start(train_in_process, "train-vqvae", settings, False, processes=2, log=log), log=log)
    assert statuses == [1, 1]
    assert "schedule.batch_size 9 does not divide by 2 processes; nearest: 8 or 10" in log.read_text()
    assert not (tmp_path / "run").exists()


def train_with_a_moved_weight(stage: str, settings: Settings) -> None:
    """Train with one process's weights moved by a hair after the third step, as unlike machines might do."""
    import os

    import torch

    from vqvae_dist.training.vqvae import VQVAEStage

    original = VQVAEStage.train_step

    def train_step(self: VQVAEStage, step: int, batch: Any) -> Any:
        report = original(self, step, batch)
        if step == 2 and os.environ["RANK"] == "1":
            with torch.no_grad():
                next(iter(self.model.parameters())).add_(1e-3)
        return report

    VQVAEStage.train_step = train_step  # type: ignore[method-assign]  # in this process alone
    train(stage, settings)


def test_weights_that_differ_between_processes_are_said_aloud_once(tmp_path: Path, packed: Path) -> None:
    changes = {**SHORT, "schedule.checkpoint_every": 2}
    settings = settings_of("train-vqvae", packed, tmp_path / "run", changes)
    text = run(train_with_a_moved_weight, "train-vqvae", settings, processes=2, log=tmp_path / "log")
    assert text.count("processes hold different weights") == 1
    (warning,) = read_json(RunFolder(tmp_path / "run").summary_file)["warnings"]
    assert "those of the main process are kept" in warning
    run(train, "train-vqvae", settings_of("train-vqvae", packed, tmp_path / "like", changes), processes=2,
        log=tmp_path / "log2")  # fmt: skip
    summary = read_json(RunFolder(tmp_path / "like").summary_file)
    assert summary["warnings"] == []
    assert 0.1 < summary["memory_gb"] < 4
