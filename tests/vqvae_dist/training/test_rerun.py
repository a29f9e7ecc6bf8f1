from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_tools.console import CommandError, UsageError
from tests.kills.harness import differences
from tests.phantoms import write_packed
from tests.processes import command, finish, start
from tests.trainings import outcome, worst_difference
from tests.vqvae_dist.training.conftest import Ended, Trainer
from vqvae_dist.code_version import code_version
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose
from vqvae_dist.files import write_sealed
from vqvae_dist.run_folder import Attempt, RunFolder
from vqvae_dist.training.identity import attempt_record
from vqvae_dist.training.logged_config import read_logged_config
from vqvae_dist.training.rerun import mismatches
from vqvae_dist.training.tracking import dashboard_config


def again(trainer: Trainer, source: Path, *flags: str) -> Ended:
    """``rerun SOURCE`` into a folder beside the run."""
    trainer.calls += 1
    log = trainer.folder / f"log{trainer.calls}"
    words = ["rerun", str(source), "--output-dir", str(trainer.folder / "again"), *flags]
    return Ended(finish(start(command, words, log=log), log=log)[0], log.read_text())


def logged(trainer: Trainer) -> dict[str, Any]:
    """What W&B is told of the run."""
    identity = trainer.run.read_config()
    config = compose(VQVAEConfig, Layer("config.json", identity["settings"]))
    return dashboard_config(config, identity, resume_step=0, attempt=Attempt())


def test_a_run_trained_again_is_equal_bit_for_bit(trainer: Trainer) -> None:
    assert trainer({"schedule.image_every": 4, "optim.lr": 3e-5}).status == 0
    ended = again(trainer, trainer.run.path)
    assert ended.status == 0, ended.text
    assert "the same data" in ended.text
    assert differences(trainer.run.path, trainer.folder / "again") == []


def test_another_run_in_the_folder_is_left_as_it_is(trainer: Trainer) -> None:
    assert trainer({"schedule.steps": 4}).status == 0
    shutil.move(trainer.run.path, trainer.folder / "again")
    assert trainer({"schedule.steps": 8}).status == 0
    ended = again(trainer, trainer.run.path)
    assert (ended.status, "again holds another run; give another folder" in ended.text) == (2, True), ended.text
    assert (RunFolder(trainer.folder / "again").read_summary() or {})["step"] == 4


def test_a_run_that_was_extended_keeps_the_warmup_it_began_with(trainer: Trainer) -> None:
    changes = {"optim.milestones": [5], "optim.warmup": 0.5}
    trainer({**changes, "schedule.steps": 8})
    trainer({**changes, "schedule.steps": 12})
    ended = again(trainer, trainer.run.path)
    assert ended.status == 0, ended.text
    assert worst_difference(outcome(trainer.run.path), outcome(trainer.folder / "again"))[0] == 0


@pytest.mark.parametrize("kind", ["api.json", "config.yaml"])
def test_a_run_is_trained_again_from_what_wandb_was_told(trainer: Trainer, kind: str) -> None:
    assert trainer({"optim.lr": 3e-5}).status == 0
    values, file = logged(trainer), trainer.folder / kind
    if file.suffix == ".json":
        file.write_text(json.dumps(values))
    else:  # as in the run's files at the server
        file.write_text(
            yaml.safe_dump({"_wandb": {"value": {"t": [1, 2]}}, **{k: {"value": v} for k, v in values.items()}})
        )
    ended = again(trainer, file)
    assert ended.status == 0, ended.text
    assert differences(trainer.run.path, trainer.folder / "again") == []


def test_numbers_without_a_point_are_numbers(tmp_path: Path, trainer: Trainer) -> None:
    trainer()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({key: {"value": value} for key, value in logged(trainer).items()}))
    text = file.read_text().replace("optim.lr:\n  value: 0.002", "optim.lr:\n  value: 2e-05")
    file.write_text(re.sub(r"attempt\.code:\n  value: .*", "attempt.code:\n  value: 2e2636315754", text))
    read = read_logged_config(file)
    assert read["settings"]["optim"]["lr"] == 2e-05
    assert read["attempts"][0]["code"] == "2e2636315754"  # a commit that looks like a number


def test_every_mismatch_is_named(trainer: Trainer) -> None:
    trainer()
    stored = trainer.run.read_config()
    stored["attempts"][-1] |= {"code": "0123456", "processes": 4, "threads": 64, "device": "NVIDIA A100"}
    stored["attempts"][-1]["libraries"]["torch"] = "2.10.0"
    stored["resolved"]["mixed"] = "bf16"
    write_sealed(trainer.run.config_file, stored)
    ended = again(trainer, trainer.run.path)
    assert ended.status == 0, ended.text
    for line in (
        "warning: torch 2.10.0 then,", "warning: code 0123456 then,", "warning: processes 4 then, 1 now",
        "warning: threads 64 then, 1 now", "warning: device NVIDIA A100 then, cpu now",
        "warning: mixed bf16 then, no now: not bit-equal",
    ):  # fmt: skip
        assert line in ended.text


def test_every_attempt_counts_and_what_is_unknown_is_a_mismatch() -> None:
    attempt = attempt_record(Attempt(), 1) | {"code": "abc"}
    early = attempt | {"code": "", "libraries": {**attempt["libraries"], "numpy": "1.0"}, "processes": 4}
    del early["device"]
    stored = {"resolved": {}, "attempts": [early, attempt, attempt]}
    numpy, code, device = version("numpy"), code_version(), attempt["device"]
    assert mismatches(stored) == [
        f"numpy 1.0 and {numpy} then, {numpy} now", "processes 4 and 1 then, 1 now",
        f"device unknown and {device} then, {device} now", f"code unknown and abc then, {code} now",
    ]  # fmt: skip
    assert f"code unknown then, {code} now" in mismatches({"resolved": {}, "attempts": []})


def test_of_a_run_that_went_on_wandb_knows_the_end_only() -> None:
    stored = {"resolved": {}, "attempts": [{**attempt_record(Attempt(), 1), "resume_step": 40}]}
    assert mismatches(stored)[-1].startswith("it went on from step 40 then")


def test_other_data_is_an_error(trainer: Trainer) -> None:
    trainer()
    write_packed(trainer.folder / "other.h5", slices=5)
    stored = trainer.run.read_config()
    stored["settings"]["data"]["path"] = str(trainer.folder / "other.h5")
    write_sealed(trainer.run.config_file, stored)
    ended = again(trainer, trainer.run.path)
    assert ended.status == 1
    assert "other.h5: not the data of that run" in ended.text
    assert not (trainer.folder / "again").exists()


def test_settings_that_were_edited_are_noticed(trainer: Trainer) -> None:
    trainer()
    file = trainer.folder / "api.json"
    file.write_text(json.dumps(logged(trainer) | {"optim.lr": 0.5}))
    ended = again(trainer, file)
    assert ended.status == 1
    assert "do not fit its fingerprint" in ended.text


@pytest.mark.parametrize(
    ("content", "message"), [("{", "neither JSON nor YAML"), ("[1]", "not the config"), ("{}", "without stage, run_id")]
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises((CommandError, UsageError), match=message):
        read_logged_config(file)
