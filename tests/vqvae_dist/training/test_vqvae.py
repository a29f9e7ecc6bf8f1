from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import torch
from safetensors.torch import load_file

from tests.phantoms import write_packed
from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.config import PixelCNNConfig, VQVAEConfig
from vqvae_dist.config_pixelcnn import PIXELCNN_METRICS
from vqvae_dist.config_vqvae import VQVAE_METRICS


def metrics_of(trainer: Trainer) -> set[str]:
    rows = trainer.run.read_metrics()
    return {name.removeprefix("validate/") for row in rows for name in row if name.startswith("validate/")}


def test_validation_measures_what_best_metric_may_name(trainer: Trainer) -> None:
    assert trainer({"checkpoint.best_metric": "min validate/mse"}).status == 0
    assert metrics_of(trainer) == set(VQVAE_METRICS)
    scores = {row["global_step"]: row["validate/mse"] for row in trainer.run.read_metrics() if "validate/mse" in row}
    best = (trainer.run.read_summary() or {})["best"]
    assert best == {
        "metric": "validate/mse",
        "value": min(scores.values()),
        "step": min(scores, key=scores.__getitem__),
    }


def test_a_figure_is_validated_once_it_is_named_among_the_metrics() -> None:
    code = (
        "from vqvae_dist.config_vqvae import VQVAE_METRICS\n"
        "VQVAE_METRICS.update(mse_foreground='min', foreground_share='max')\n"
        "import numpy as np; from vqvae_dist.training.vqvae_validation import SCORES, means\n"
        "print(sorted(VQVAE_METRICS.keys() ^ means(np.ones((len(SCORES), 2)), np.ones((2, 4))).keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_stage_s_default_metric_may_be_named() -> None:
    from vqvae_dist.training.pixelcnn import PixelCNNStage
    from vqvae_dist.training.vqvae import VQVAEStage

    for stage, metrics in ((VQVAEStage, VQVAE_METRICS), (PixelCNNStage, PIXELCNN_METRICS)):
        assert stage.best_metric.split("validate/")[1] in metrics
    assert VQVAEConfig().checkpoint.best_metric == PixelCNNConfig().checkpoint.best_metric == ""


def test_averaged_weights_are_validated_through_the_codebook(trainer: Trainer) -> None:
    """The averaged copy is made before the codebook is initialised, and must notice that it was."""
    assert trainer({"model.ema": 0.5, "schedule.validate_every": 4, "schedule.steps": 8}).status == 0
    rows = [row for row in trainer.run.read_metrics() if "validate/usage" in row]
    assert all(row["validate/usage"] > 1 / 32 for row in rows)
    assert all(row["validate/perplexity"] > 1.5 for row in rows)


def test_exported_weights_score_what_validation_said(trainer: Trainer, packed: Path) -> None:
    from data_tools.slicefile import SliceReader
    from vqvae_dist.config_io import Layer, compose
    from vqvae_dist.models.build import build_vqvae

    assert trainer({"model.ema": 0.9}).status == 0
    config = compose(VQVAEConfig, Layer("config.json", trainer.run.read_config()["settings"]))
    model = build_vqvae(config.model).eval()
    model.load_state_dict(load_file(trainer.run.model / "model.safetensors"))
    reader = SliceReader(packed)
    rows = reader.rows("40x40_uint8", "validate")
    images = torch.stack([torch.from_numpy(reader.scaled("40x40_uint8", int(row))) for row in rows])[:, None]
    with torch.no_grad():
        mse = (model(images).reconstruction.clamp(0, 1) - images).square().mean()
    best = (trainer.run.read_summary() or {})["best"]["step"]
    said = next(row["validate/mse"] for row in trainer.run.read_metrics() if row["global_step"] == best)
    assert abs(float(mse) - said) < 1e-6


def test_learning_rate_rises_and_falls_where_settings_say(trainer: Trainer) -> None:
    changes = {"optim.warmup": 3, "optim.milestones": [4, 6], "optim.gamma": 0.5, "optim.lr": 1e-3}
    assert trainer(changes).status == 0
    rates = [row["train/lr"] for row in trainer.run.read_metrics()]
    wanted = [1 / 3, 2 / 3, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert all(abs(rate - 1e-3 * share) < 1e-9 for rate, share in zip(rates, wanted, strict=True))


def test_an_index_that_was_changed_is_named_before_training(tmp_path: Path) -> None:
    path = write_packed(tmp_path / "changed.h5")
    with h5py.File(path, "r+") as file:
        for group in file["images"].values():
            group["split"][:] = 0
    trainer = Trainer(tmp_path, path)
    ended = trainer()
    assert ended.status == 1
    assert f"{path}: the index is damaged" in ended.text
    assert not trainer.run.path.exists()


def test_slices_smaller_than_the_window_are_named_before_training(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, write_packed(tmp_path / "tiny.h5", shapes=((6, 40, "uint8"),)))
    ended = trainer()
    assert ended.status == 1
    assert "6x40_uint8: SSIM needs slices of at least 7x7 pixels" in ended.text
    assert not trainer.run.path.exists()
