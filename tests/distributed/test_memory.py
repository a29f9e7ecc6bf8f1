"""A process that runs out of memory: all of them go on with smaller micro-batches, and nobody waits for anybody."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kills.harness import UNSTABLE
from tests.processes import finish, run, start
from tests.trainings import (
    Settings,
    command_line,
    outcome,
    settings_of,
    train,
    train_in_process,
    worst_difference,
    worst_loss,
)
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WITHIN_S = 30
"""The whole training of a few steps, its second start included, takes a fraction of this; a deadlock all of it."""

SHORT = {
    "schedule.steps": 12,
    "schedule.validate_every": 4,
    "schedule.checkpoint_every": 4,
    "schedule.micro_batch_size": 4,
}


def starve(place: str, rank: str, fits: int, first_step: int) -> None:
    """Make this process run out of memory in ``place`` from a step on, with micro-batches of more than ``fits``."""
    import torch

    from vqvae_dist.training import pixelcnn, vqvae

    if os.environ.get("RANK", "0") != rank:
        return

    def run_out(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    for kind in (vqvae.VQVAEStage, pixelcnn.PixelCNNStage):
        _starve(kind, place, fits, first_step, run_out)


def _starve(kind: Any, place: str, fits: int, first_step: int, run_out: Any) -> None:
    step_of, micro_of = kind.train_step, kind.micro_step
    short = [False]

    def train_step(self: Any, step: int, batch: Any) -> Any:
        short[0] = step >= first_step and self.micro > fits
        if place == "step" and short[0]:
            self.optimizer.optimizer.register_step_pre_hook(run_out)
        return step_of(self, step, batch)

    def micro_step(self: Any, *arguments: Any) -> Any:
        if short[0] and place == "forward":
            run_out()
        weight = next(iter(self.model.parameters()))
        handle = weight.register_hook(run_out) if short[0] and place == "backward" else None
        try:
            return micro_of(self, *arguments)
        finally:
            if handle:
                handle.remove()

    kind.train_step, kind.micro_step = train_step, micro_step


def train_starved(stage: str, settings: Settings, place: str, rank: str, fits: int, first_step: int) -> None:
    starve(place, rank, fits, first_step)
    train(stage, settings, float64=True)


def command_starved(arguments: list[str]) -> None:
    from vqvae_dist.cli import main

    starve("forward", "1", 0, 2)
    raise SystemExit(main(arguments))


@pytest.mark.parametrize("place", ["forward", "backward", "step"])
@pytest.mark.parametrize(
    ("stage", "rank", "first_step"), [("train-vqvae", 1, 6), ("train-vqvae", 0, 0), ("train-pixelcnn", 1, 6)]
)
def test_one_of_two_runs_out_and_both_go_on_with_half_the_micro_batch(
    tmp_path: Path, packed: Path, codes: Path, stage: str, rank: int, first_step: int, place: str
) -> None:
    data = packed if stage == "train-vqvae" else codes
    log = tmp_path / "log"
    run(train_in_process, stage, settings_of(stage, data, tmp_path / "enough", SHORT), True, processes=2, log=log)
    settings = settings_of(stage, data, tmp_path / "starved", SHORT)
    began = time.monotonic()
    text = run(train_starved, stage, settings, place, str(rank), 2, first_step, processes=2, log=log)
    assert time.monotonic() - began < WITHIN_S
    folder = RunFolder(tmp_path / "starved")
    noticed = first_step + (place == "step")  # a step that could not be taken is told when the next one is due
    assert ("going on from step 4" in text) == (first_step == 6)
    assert folder.read_config()["resolved"]["micro_batch_size"] == 2
    (warning,) = [w for w in read_json(folder.summary_file)["warnings"] if "out of memory" in w]
    assert warning == (
        f"step {noticed}: out of memory with micro-batches of 4; going on with 2 (accumulation 2), "
        "the same batches of 8"
    )
    assert warning in text
    one, two = outcome(tmp_path / "enough"), outcome(tmp_path / "starved")
    assert [row["global_step"] for row in one.rows] == [row["global_step"] for row in two.rows]
    assert {*one.rows[0]} - UNSTABLE == {*two.rows[0]} - UNSTABLE
    assert worst_loss(one, two) < 1e-9
    assert worst_difference(one, two)[0] < 1e-9, worst_difference(one, two)


def test_the_next_attempt_keeps_the_smaller_micro_batch_until_another_is_asked_for(
    tmp_path: Path, packed: Path
) -> None:
    log = tmp_path / "log"
    path = tmp_path / "run"
    run(train_starved, "train-vqvae", settings_of("train-vqvae", packed, path, SHORT), "forward", "0", 1, 3, log=log)
    assert RunFolder(path).read_config()["resolved"]["micro_batch_size"] == 1
    longer = {**SHORT, "schedule.steps": 16}
    run(train_in_process, "train-vqvae", settings_of("train-vqvae", packed, path, longer), True, log=log)
    assert RunFolder(path).read_config()["resolved"]["micro_batch_size"] == 1
    other = {**SHORT, "schedule.steps": 20, "schedule.micro_batch_size": 8}
    run(train_in_process, "train-vqvae", settings_of("train-vqvae", packed, path, other), True, log=log)
    assert "micro_batch_size" not in RunFolder(path).read_config()["resolved"]


def test_where_one_slice_does_not_fit_every_process_ends_and_says_what_may_help(tmp_path: Path, packed: Path) -> None:
    log = tmp_path / "log"
    arguments = command_line("train-vqvae", settings_of("train-vqvae", packed, tmp_path / "run", SHORT))
    began = time.monotonic()
    assert finish(start(command_starved, arguments, processes=2, log=log), log=log) == [1, 1]
    assert time.monotonic() - began < WITHIN_S
    text = log.read_text()
    assert "error: step 2: out of memory with one slice a micro-batch; use --precision.activation-checkpointing" in text
    assert "Traceback" not in text
    assert read_json(RunFolder(tmp_path / "run").summary_file)["state"] == "failed"
