from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.console import CommandError, UsageError
from tests.vqvae_dist.inference.conftest import Make
from vqvae_dist.files import write_sealed
from vqvae_dist.inference.load import load_pixelcnn, load_vqvae
from vqvae_dist.run_folder import read_sealed


def edit_config(run: Path, **changes: Any) -> None:
    path = run / "model" / "config.json"
    write_sealed(path, {**read_sealed(path), **changes})


def test_loaded_vqvae_is_ready_to_be_used(vqvae_run: Make) -> None:
    vqvae = load_vqvae(vqvae_run())
    assert not vqvae.model.training
    assert not any(parameter.requires_grad for parameter in vqvae.model.parameters())
    assert vqvae.model(torch.rand(2, 1, 30, 22)).reconstruction.shape == (2, 1, 30, 22)
    assert vqvae.description["step"] == 5


def test_loading_gives_the_exported_weights(vqvae_run: Make) -> None:
    a, b, other = (load_vqvae(run) for run in (vqvae_run("a"), vqvae_run("b"), vqvae_run("c", seed=1)))
    images = torch.rand(1, 1, 16, 16)
    assert torch.equal(a.model(images).reconstruction, b.model(images).reconstruction)
    assert not torch.equal(a.model(images).reconstruction, other.model(images).reconstruction)


def test_missing_run_and_missing_model_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"no such run folder; python -m vqvae_dist train-vqvae --output-dir \S+ makes"
    ):
        load_vqvae(tmp_path / "nothing")
    with pytest.raises(CommandError, match="not a run folder"):
        load_vqvae(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CommandError, match="no model in model/ yet"):
        load_vqvae(tmp_path)


def test_a_run_of_the_other_stage_is_refused(vqvae_run: Make, pixelcnn_run: Make) -> None:
    vqvae = vqvae_run()
    prior = pixelcnn_run(vqvae)
    with pytest.raises(UsageError, match=r"a run of train-pixelcnn; give a run of train-vqvae"):
        load_vqvae(prior)
    with pytest.raises(UsageError, match=r"a run of train-vqvae; give a run of train-pixelcnn"):
        load_pixelcnn(vqvae)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_byte_of_the_weights_is_noticed(vqvae_run: Make, place: int) -> None:
    run = vqvae_run()
    path = run / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CommandError, match=r"model\.safetensors: damaged \(checksum mismatch\)"):
        load_vqvae(run)


def test_weights_that_are_no_safetensors_are_named(vqvae_run: Make) -> None:
    run = vqvae_run()
    (run / "model" / "model.safetensors").write_bytes(b"junk")
    edit_config(run, weights_sha256=hashlib.sha256(b"junk").hexdigest())
    with pytest.raises(CommandError, match=r"model\.safetensors: damaged"):
        load_vqvae(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"hidden": "wide"}}, "a model of another version of this program"),
        ({"model": {"unknown": 1}}, "a model of another version of this program"),
        ({"model": None}, "a model of another version of this program"),
        ({"schema": 99}, "schema 99"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(vqvae_run: Make, changes: dict[str, Any], message: str) -> None:
    run = vqvae_run()
    edit_config(run, **changes)
    with pytest.raises(CommandError, match=message):
        load_vqvae(run)


def test_a_changed_digit_of_the_description_is_noticed(vqvae_run: Make) -> None:
    path = vqvae_run() / "model" / "config.json"
    path.write_text(path.read_text().replace('"step": ', '"step": 1', 1))
    with pytest.raises(CommandError, match="damaged or edited"):
        load_vqvae(path.parent.parent)


def test_weights_of_another_shape_are_refused(vqvae_run: Make) -> None:
    run = vqvae_run()
    model = json.loads((run / "model" / "config.json").read_text())["model"]
    edit_config(run, model={**model, "hidden": 12})
    with pytest.raises(CommandError, match="do not fit the model"):
        load_vqvae(run)


def test_a_description_cut_short_is_named(vqvae_run: Make) -> None:
    run = vqvae_run()
    path = run / "model" / "config.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(CommandError, match=r"config\.json: damaged"):
        load_vqvae(run)


def test_a_model_without_a_codebook_yet_is_refused(vqvae_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqvae_dist.models.quantizer.Quantizer.initialise", lambda *_: None)
    with pytest.raises(CommandError, match="no codebook yet"):
        load_vqvae(vqvae_run())


def test_loaded_prior_knows_its_codes_and_classes(vqvae_run: Make, pixelcnn_run: Make) -> None:
    prior = load_pixelcnn(pixelcnn_run(vqvae_run(), classes=("control", "patient")))
    assert prior.model.codebook_size == 16
    assert prior.classes == ["control", "patient"]
