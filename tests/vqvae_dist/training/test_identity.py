from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.console import CommandError
from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose
from vqvae_dist.files import write_sealed
from vqvae_dist.training.identity import believed_config, new_identity
from vqvae_dist.training.runtime import Precision

CONFIG = compose(VQVAEConfig, Layer("test", {"optim": {"milestones": [0.6], "warmup": 4}, "schedule": {"steps": 100}}))
FILE = Path("config.json")


@pytest.fixture
def stored() -> dict[str, Any]:
    return new_identity(CONFIG, Precision("no", False), stage="train-vqvae", digest="d", generation=0)


def test_settings_are_those_that_the_fingerprint_tells(stored: dict[str, Any]) -> None:
    assert believed_config(FILE, stored) == CONFIG
    stored["settings"]["data"]["workers"] = 7  # free to change
    believed_config(FILE, stored)
    stored["settings"]["optim"]["lr"] = 0.5
    with pytest.raises(CommandError, match=r"config\.json: its settings do not fit its fingerprint"):
        believed_config(FILE, stored)


def test_a_setting_that_an_earlier_version_did_not_have_is_named(stored: dict[str, Any]) -> None:
    older = changed(changed(stored, "fingerprint", value="0" * 64), "settings", "seed")
    with pytest.raises(CommandError, match=r"do not fit its fingerprint 00000000; of another version, without seed\?"):
        believed_config(FILE, older)


def changed(stored: dict[str, Any], *path: str, value: Any = None) -> dict[str, Any]:
    """A copy with one value replaced, or without it."""
    stored = copy.deepcopy(stored)
    *parents, key = path
    part = stored
    for parent in parents:
        part = part[parent]
    if value is None:
        del part[key]
    else:
        part[key] = value
    return stored


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stored: changed(stored, "resolved", "milestones"), "resolved.milestones is not a list"),
        (lambda stored: changed(stored, "resolved", "milestones", value=["a"]), "do not fit its fingerprint"),
        (lambda stored: changed(stored, "resolved", "warmup", value="4"), "resolved.warmup is not a whole number"),
        (lambda stored: changed(stored, "resolved", "micro_batch_size", value="4"), "resolved.micro_batch_size"),
        (lambda stored: changed(stored, "attempts", value=[3]), "an attempt is not an object"),
        (lambda stored: changed(stored, "attempts", value=[{"libraries": 3}]), "attempts.libraries is not an object"),
        (lambda stored: changed(stored, "stage", value="train-gan"), "stage train-gan"),
        (lambda stored: changed(stored, "settings", "schedule", value=3), "schedule"),
        (lambda stored: changed(stored, "settings", "schedule", "steps", value="many"), "schedule.steps"),
        (lambda stored: changed(stored, "settings", "later", value=3), "later"),
    ],
)
def test_what_is_not_of_its_kind_is_named(
    stored: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    with pytest.raises(CommandError, match=words) as caught:
        believed_config(FILE, change(stored))
    assert caught.value.status == 1
    assert str(caught.value).startswith("config.json: ")


def test_a_run_whose_settings_were_edited_is_not_continued(trainer: Trainer) -> None:
    trainer()
    stored = changed(trainer.run.read_config(), "settings", "optim", "lr", value=0.5)
    write_sealed(trainer.run.config_file, stored)
    ended = trainer({"optim.lr": 0.5, "schedule.steps": 12})
    assert ended.status == 1
    assert "its settings do not fit its fingerprint" in ended.text
    assert len(ended.text.splitlines()) == 1
