from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainings import Settings, outcome, worst_difference
from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.code_version import code_version
from vqvae_dist.config_io import changed_settings
from vqvae_dist.files import SEAL, write_sealed
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder


def test_a_new_run_leaves_what_the_contract_says(trainer: Trainer) -> None:
    ended = trainer()
    assert ended.status == 0, ended.text
    run = trainer.run
    config = run.read_config()
    assert config["run_id"].startswith("lr2e-3_ms5_")
    assert config["run_id"].endswith(config["fingerprint"][:8])
    assert config["resolved"] == {"milestones": [5], "warmup": 4, "mixed": "no", "compile": False}
    assert config["settings"]["optim"]["milestones"] == [0.6]
    assert config["attempts"][0]["processes"] == 1
    assert config["attempts"][0]["libraries"]["torch"] == version("torch")
    summary = run.read_summary() or {}
    assert (summary["state"], summary["step"]) == ("completed", 8)
    assert (summary["precision"], summary["compile"]) == ("no", False)
    assert summary["best"]["metric"] == "validate/ssim_foreground"
    assert {"validate/ssim", "validate/psnr", "validate/mse", "validate/perplexity_foreground", "train/loss"} <= set(
        summary["final"]
    )
    rows = run.read_metrics()
    assert [row["global_step"] for row in rows] == list(range(1, 9))
    assert {"train/loss", "train/reconstruction", "train/commitment", "train/lr", "train/grad_norm"} <= set(rows[0])
    assert ["validate/ssim" in row for row in rows] == [False, False, False, True] * 2
    assert summary["pictures"] == [int(path.stem.removeprefix("step_")) for path in sorted(run.images.iterdir())]
    assert run.image_file(8).is_file()
    assert (run.model / "model.safetensors").is_file()
    assert (run.checkpoints / "latest").read_text() == "step_00000008\n"


def test_the_same_command_on_a_completed_run_says_so(trainer: Trainer) -> None:
    trainer()
    before = {path: path.stat().st_mtime_ns for path in trainer.run.path.rglob("*") if path.is_file()}
    ended = trainer()
    assert ended.status == 0
    assert ended.text == f"{trainer.run.path}: completed already, 8 steps; larger schedule.steps extends it\n"
    assert {path: path.stat().st_mtime_ns for path in trainer.run.path.rglob("*") if path.is_file()} == before


def test_what_a_kill_kept_a_completed_run_from_is_made_up(trainer: Trainer) -> None:
    trainer()
    whole = trainer.run.animation_file.read_bytes()
    trainer.run.animation_file.rename(trainer.run.path / ".staging-0-animation.gif")
    assert trainer().status == 0
    assert trainer.run.animation_file.read_bytes() == whole
    assert not list(trainer.run.path.glob(".staging-*"))


def test_more_steps_extend_a_run_as_if_it_had_been_that_long(trainer: Trainer, tmp_path: Path, packed: Path) -> None:
    milestones = {"optim.milestones": [6]}
    trainer(milestones)
    assert trainer({**milestones, "schedule.steps": 12}).status == 0
    longer = Trainer(tmp_path / "longer", packed)
    longer.folder.mkdir()
    longer({**milestones, "schedule.steps": 12})
    assert worst_difference(outcome(trainer.run.path), outcome(longer.run.path))[0] == 0
    assert trainer.run.read_config()["fingerprint"] == longer.run.read_config()["fingerprint"]


def test_shares_stay_what_they_were_when_the_run_first_started(trainer: Trainer) -> None:
    trainer()
    first = trainer.run.read_config()
    assert trainer({"schedule.steps": 20}).status == 0
    extended = trainer.run.read_config()
    assert extended["resolved"] == first["resolved"]
    assert extended["run_id"] == first["run_id"]
    rates = [row["train/lr"] for row in trainer.run.read_metrics()]
    assert rates[4] == pytest.approx(2e-3)
    assert rates[5:] == pytest.approx([2e-4] * 15)
    # The fingerprint is that of what was trained: of milestone 5, not of 0.6 x 20.
    shutil.rmtree(trainer.run.path)
    trainer({"schedule.steps": 20, "optim.milestones": [5]})
    assert trainer.run.read_config()["fingerprint"] == extended["fingerprint"]


def test_other_settings_are_refused_by_name(trainer: Trainer) -> None:
    trainer()
    ended = trainer({"optim.lr": 0.1, "schedule.steps": 4, "model.hidden": 16, "seed": 3})
    assert ended.status == 2
    for change in ("optim.lr 0.002 -> 0.1", "schedule.steps 8 -> 4", "model.hidden 8 -> 16", "seed 0 -> 3"):
        assert change in ended.text
    assert "--fresh" in ended.text
    assert len(ended.text.splitlines()) == 1


def test_other_data_is_refused(trainer: Trainer, packed_shapes: Path) -> None:
    trainer()
    trainer.data = packed_shapes
    ended = trainer()
    assert ended.status == 2
    assert "data.path (other data)" in ended.text


def test_what_does_not_change_the_result_may_change(trainer: Trainer) -> None:
    trainer({"schedule.steps": 4})
    free: dict[str, Any] = {"schedule.micro_batch_size": 4, "schedule.log_every": 3, "schedule.checkpoint_every": 3}
    free |= {"data.preload": "ram", "checkpoint.keep_last": 3, "schedule.image_every": 5}
    assert trainer({"schedule.steps": 8, "optim.milestones": [2], **free}).status == 0


def test_fresh_keeps_the_old_run_aside(trainer: Trainer) -> None:
    trainer()
    old = (trainer.run.model / "model.safetensors").read_bytes()
    for generation in (1, 2):
        ended = trainer({"seed": generation}, "--fresh")
        assert ended.status == 0, ended.text
        kept = RunFolder(trainer.run.path / "previous" / str(generation - 1))
        assert str(kept.path) in ended.text
        assert trainer.run.read_config()["generation"] == generation
        assert trainer.run.read_metrics()[0]["global_step"] == 1
        assert len(trainer.run.read_metrics()) == 8
    first = RunFolder(trainer.run.path / "previous" / "0")
    assert (first.model / "model.safetensors").read_bytes() == old
    assert first.read_config()["generation"] == 0


def test_fresh_that_was_killed_midway_is_taken_up(trainer: Trainer) -> None:
    trainer()
    target = trainer.run.path / "previous" / "0"
    target.mkdir(parents=True)
    shutil.move(trainer.run.checkpoints, target / "checkpoints")  # what a kill early in --fresh leaves
    assert trainer({"seed": 5}, "--fresh").status == 0
    assert trainer.run.read_config()["generation"] == 1
    assert {"checkpoints", "config.json", "metrics.jsonl", "model"} <= {path.name for path in target.iterdir()}


def test_fresh_moves_nothing_that_is_no_run(trainer: Trainer) -> None:
    trainer.run.path.mkdir()
    (trainer.run.path / "thesis.tex").write_text("the only copy")
    ended = trainer({}, "--fresh")
    assert ended.status == 2
    assert "holds other files (thesis.tex) and no config.json of a run; give another --output-dir" in ended.text
    assert [path.name for path in trainer.run.path.iterdir()] == ["thesis.tex"]


def test_fresh_does_not_move_the_data_it_trains_on(trainer: Trainer) -> None:
    trainer()
    data = trainer.run.path / "brain.h5"
    shutil.copy(trainer.data, data)
    trainer.data = data
    before = sorted(trainer.run.path.rglob("*"))
    ended = trainer({}, "--fresh")
    assert ended.status == 2
    assert f"--fresh would move {data}, which lies in {trainer.run.path}; give another --output-dir" in ended.text
    assert sorted(trainer.run.path.rglob("*")) == before


def test_checkpoints_without_settings_are_not_taken_up(trainer: Trainer) -> None:
    trainer()
    trainer.run.config_file.unlink()
    ended = trainer()
    assert ended.status == 2
    assert "checkpoints" in ended.text
    assert "no config.json" in ended.text


def test_a_refused_command_leaves_no_run_behind(trainer: Trainer) -> None:
    ended = trainer({"schedule.batch_size": 9, "schedule.micro_batch_size": 2})
    assert ended.status == 2
    assert "schedule.batch_size 9 does not divide by 1 process x 2 slices; nearest: 8 or 10" in ended.text
    assert not trainer.run.path.exists()
    if not torch.cuda.is_available():
        ended = trainer({"precision.mixed": "fp16"})
        assert ended.status == 2
        assert "precision.mixed fp16 needs a CUDA device; on CPU use no or bf16" in ended.text
        assert not trainer.run.path.exists()


def test_without_validation_slices_the_last_step_is_best(tmp_path: Path) -> None:
    from tests.phantoms import write_packed

    trainer = Trainer(tmp_path, write_packed(tmp_path / "train.h5", subjects=("train",) * 3))
    ended = trainer()
    assert ended.status == 0
    assert "warning: no validation slices: the last step counts as best" in ended.text
    assert trainer({"schedule.steps": 10}).status == 0
    summary = trainer.run.read_summary() or {}
    assert summary["best"] == {"metric": "validate/ssim_foreground", "value": None, "step": 10}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optim.milestones": [3, 100]}, "optim.milestones 100 is not reached in schedule.steps 8"),
        (
            {"data.train_split": "all"},
            "data.train_split all holds data.validate_split validate: what is trained on chooses the best",
        ),
        (
            {"data.crop": 44},
            "data.crop 44 is larger than every slice (at most 40 pixels a side): whole slices are taken",
        ),
    ],
)
def test_settings_that_can_hardly_be_meant_are_warned_of(trainer: Trainer, changes: Settings, said: str) -> None:
    ended = trainer(changes)
    assert ended.status == 0
    assert f"warning: {said}" in ended.text


def test_settings_that_are_meant_are_not(trainer: Trainer) -> None:
    assert "warning" not in trainer({"data.crop": 40}).text


def test_every_validation_has_its_line(trainer: Trainer) -> None:
    lines = trainer({"schedule.validate_every": 2, "model.quantizer.init_after": 1}).text.splitlines()
    *validated, end = [line for line in lines if "ssim_foreground" in line]
    assert [line.split()[1] for line in validated] == ["2/8", "4/8", "6/8", "8/8"]
    assert end.startswith("completed 8 steps")
    best = (trainer.run.read_summary() or {})["best"]
    assert f", best ssim_foreground {best['value']:.4g} at step {best['step']}: " in end


def test_changed_settings_take_resolved_milestones_for_the_shares_they_were() -> None:
    from vqvae_dist.config import VQVAEConfig
    from vqvae_dist.config_io import Layer, compose, to_json

    def config(**changes: Any) -> VQVAEConfig:
        return compose(VQVAEConfig, Layer("test", {"optim": {"milestones": [0.5]}, **changes}))

    stored = {"settings": to_json(config()), "resolved": {"milestones": [500], "warmup": 0}}
    assert changed_settings(json.loads(json.dumps(stored)), config(optim={"milestones": [500]})) == []
    assert changed_settings(stored, config(optim={"milestones": [400]})) == ["optim.milestones [0.5] -> [400]"]


def test_a_new_run_is_not_mixed_with_other_files(trainer: Trainer) -> None:
    picture = trainer.run.images / "step_00000008.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"mine")
    ended = trainer()
    assert ended.status == 2
    assert "images" in ended.text
    assert picture.read_bytes() == b"mine"


def test_a_file_as_run_folder_is_refused(trainer: Trainer) -> None:
    trainer.run.path.parent.mkdir(parents=True, exist_ok=True)
    trainer.run.path.write_text("mine")
    ended = trainer()
    assert ended.status == 2
    assert "is a file" in ended.text


def test_a_completed_run_without_checkpoints_is_not_extended_from_nothing(trainer: Trainer) -> None:
    trainer()
    shutil.rmtree(trainer.run.checkpoints)
    weights = (trainer.run.model / "model.safetensors").read_bytes()
    ended = trainer({"schedule.steps": 20})
    assert ended.status == 2
    assert "--fresh" in ended.text
    assert (trainer.run.model / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(("before", "warned"), [("abc", True), ("", False)])
def test_another_version_of_the_code_is_said_where_both_are_known(trainer: Trainer, before: str, warned: bool) -> None:
    trainer()
    file = trainer.run.config_file
    stored = read_json(file)
    stored.pop(SEAL)
    stored["attempts"][0]["code"] = before
    write_sealed(file, stored)
    ended = trainer({"schedule.steps": 12})
    assert ended.status == 0, ended.text
    assert ("was trained with code" in ended.text) == (warned and bool(code_version()))
