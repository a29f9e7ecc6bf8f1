from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainings import outcome, worst_difference
from tests.vqvae_dist.training.conftest import Trainer
from tests.vqvae_dist.training.parts import flip_a_bit
from vqvae_dist.json_files import read_json


def empty(folder: Path) -> None:
    """Delete a checkpoint's progress and manifest."""
    for name in ("trainer.json", "manifest.json"):
        (folder / name).unlink()


def test_export_lost_to_a_kill_is_repaired(trainer: Trainer) -> None:
    trainer()
    exported = (trainer.run.model / "model.safetensors").read_bytes()
    best = int((trainer.run.read_summary() or {})["best"]["step"])
    shutil.rmtree(trainer.run.model)
    trainer.run.summary_file.unlink()
    assert trainer().status == 0
    assert (trainer.run.model / "model.safetensors").read_bytes() == exported
    assert read_json(trainer.run.model / "config.json")["step"] == best


@pytest.mark.parametrize("damage", [lambda best: flip_a_bit(best / "model.safetensors"), shutil.rmtree, empty])
def test_a_damaged_best_checkpoint_is_not_exported(trainer: Trainer, damage: Callable[[Path], object]) -> None:
    changes = {"checkpoint.best_metric": "min validate/black_error", "schedule.steps": 12}  # step 4 is the best: 0
    trainer(changes)
    assert (trainer.run.read_summary() or {})["best"]["step"] == 4
    damage(trainer.run.checkpoint(4))
    shutil.rmtree(trainer.run.model)
    ended = trainer(changes)
    assert ended.status == 0, ended.text
    assert not trainer.run.model.exists()
    assert "the best weights, of step 4, can't be exported" in ended.text


def test_a_damaged_newest_checkpoint_is_said_and_trained_again(trainer: Trainer) -> None:
    trainer()
    wanted = outcome(trainer.run.path)
    damaged = trainer.run.checkpoint(8) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    trainer.run.summary_file.unlink()
    ended = trainer()
    assert ended.status == 0, ended.text
    assert f"{damaged}: checksum mismatch, going back to step 6" in ended.text
    again = outcome(trainer.run.path)
    assert worst_difference(again, wanted)[0] == 0
    assert [row["train/loss"] for row in again.rows] == [row["train/loss"] for row in wanted.rows]


def test_a_damaged_summary_does_not_stop_a_run(trainer: Trainer) -> None:
    trainer({"schedule.steps": 4})
    trainer.run.summary_file.write_text("{")
    assert trainer({"schedule.steps": 8, "optim.milestones": [2]}).status == 0
    assert (trainer.run.read_summary() or {})["step"] == 8


def test_damage_to_metrics_is_said_by_every_later_attempt(trainer: Trainer) -> None:
    trainer({"schedule.steps": 4})
    file = trainer.run.metrics_file
    rows = file.read_text()
    file.write_text(rows.replace('"train/loss": 0', '"train/loss": 1', 1))
    assert file.read_text() != rows
    for steps in (8, 12, 12):
        ended = trainer({"schedule.steps": steps, "optim.milestones": [2]})
        assert ended.status == 0, ended.text
        assert f"{file}: damaged" in ended.text
    assert not trainer.run.metrics_agree()
    assert trainer({"seed": 3}, "--fresh").status == 0
    assert trainer.run.metrics_agree()


def test_an_attempt_that_could_not_begin_leaves_what_the_summary_says(trainer: Trainer) -> None:
    trainer()
    before = trainer.run.read_summary() or {}
    newest = trainer.run.checkpoint(8) / "model.safetensors"
    newest.rename(trainer.folder / "kept")
    newest.symlink_to(newest.name)  # an error of the system, whoever reads it
    changes = {"schedule.steps": 12, "optim.milestones": [5]}
    ended = trainer(changes)
    assert ended.status == 1
    assert f"{newest}: Too many levels of symbolic links; nothing was deleted" in ended.text
    assert trainer.run.read_summary() == {**before, "state": "failed", "reason": ended.text[len("error: ") : -1]}
    (trainer.folder / "kept").replace(newest)
    ended = trainer(changes)
    assert ended.status == 0, ended.text
    assert "going on from step 8" in ended.text
