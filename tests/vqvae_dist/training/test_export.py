from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.vqvae_dist.training.parts import flip_a_bit, parts_of
from vqvae_dist.files import write_sealed
from vqvae_dist.run_folder import Attempt, Ownership, RunFolder, read_sealed
from vqvae_dist.training.checkpoint import export_model, exported_step


def test_exported_bytes_depend_on_weights_alone(tmp_path: Path) -> None:
    exported = []
    for name in ("a", "b"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        weight = torch.arange(24.0).reshape(2, 3, 2, 2)
        if name == "b":
            weight = weight.to(memory_format=torch.channels_last)
        export_model(run, {"weight": weight}, {"run_id": name}, Ownership(run, Attempt()))
        exported.append((run.model / "model.safetensors").read_bytes())
        about = json.loads((run.model / "config.json").read_text())
        assert about["run_id"] == name
        assert len(about["weights_sha256"]) == 64
    assert exported[0] == exported[1]


@pytest.fixture
def exported(run: RunFolder) -> RunFolder:
    """A model exported at step 4."""
    export_model(run, parts_of(4)["model"], {"run_id": "a", "step": 4}, Ownership(run, Attempt()))
    return run


def test_the_step_of_an_export_is_known(exported: RunFolder, tmp_path: Path) -> None:
    assert exported_step(exported, "a") == 4
    assert exported_step(RunFolder(tmp_path / "new"), "a") is None


def without_step(model: Path) -> None:
    """An export of before steps were written."""
    about = read_sealed(model / "config.json")
    write_sealed(model / "config.json", {name: value for name, value in about.items() if name != "step"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda model: flip_a_bit(model / "model.safetensors"), r"model\.safetensors: checksum mismatch"),
        (lambda model: (model / "model.safetensors").unlink(), "model.safetensors: No such file"),
        (lambda model: (model / "config.json").unlink(), "config.json: No such file"),
        (lambda model: (model / "config.json").write_text("{"), "config.json: damaged"),
        (without_step, "config.json: damaged, its step is missing"),
    ],
)
def test_a_damaged_export_is_said_aloud_and_counts_as_none(
    damage: Callable[[Path], object], words: str, exported: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(exported.model)
    assert exported_step(exported, "a") is None
    said = capsys.readouterr().err
    assert re.search(words, said)
    assert "it is written again from the checkpoint of its step" in said


def test_an_export_of_another_run_counts_as_none(exported: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported_step(exported, "b") is None
    assert "config.json: of another run, a" in capsys.readouterr().err
