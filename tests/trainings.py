"""Tiny trainings, and what they leave, for comparing one with another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from vqvae_dist.config import STAGES, PixelCNNConfig, VQVAEConfig
from vqvae_dist.config_io import Layer, compose, flatten, merge, nest
from vqvae_dist.run_folder import CONFIG_KINDS, RunFolder

Settings = dict[str, Any]

VQVAE: Settings = nest(
    {
        "model.hidden": 8, "model.residual_layers": 1, "model.residual_hidden": 8,
        "model.codebook_size": 32, "model.code_dim": 8,
        # A short memory, so that codes fall out of use and are revived within a few steps.
        "model.quantizer.decay": 0.8, "model.quantizer.init_after": 3, "model.quantizer.rate": 0.1,
        "data.crop": 32, "data.augment": "flip",
        "loss.ssim": 0.1,
        "optim.lr": 2e-3, "optim.milestones": [0.6], "optim.warmup": 4,
        "schedule.steps": 50, "schedule.batch_size": 8, "schedule.log_every": 1, "schedule.validate_every": 25,
        "schedule.image_every": 1000, "schedule.checkpoint_every": 25,
        "precision.mixed": "no", "precision.compile": "off",
        "tracking.mode": "disabled",
    }
)  # fmt: skip

PIXELCNN: Settings = nest(
    {
        "model.layers": 3, "model.hidden": 8, "model.dilations": [1, 2], "model.dropout": 0.1, "model.ema": 0.9,
        "optim.lr": 2e-3, "optim.milestones": [0.6], "optim.warmup": 4, "optim.gradient_clip": 1.0,
        "schedule.steps": 50, "schedule.batch_size": 8, "schedule.log_every": 1, "schedule.validate_every": 25,
        "schedule.image_every": 1000, "schedule.checkpoint_every": 25,
        "precision.mixed": "no", "precision.compile": "off",
        "tracking.mode": "disabled",
    }
)  # fmt: skip

BASES = {"train-vqvae": VQVAE, "train-pixelcnn": PIXELCNN}


def empty_config() -> dict[str, Any]:
    """What config.json of a run must say, each an empty value of its kind."""
    return {key: kind() for key, kind in CONFIG_KINDS.items() if isinstance(kind, type)}


def settings_of(stage: str, data: Path, output: Path, changes: Settings) -> Settings:
    """The tiny training of ``stage`` with dotted ``changes``."""
    return merge(BASES[stage], nest({**changes, "data.path": str(data), "output_dir": str(output)}))


def command_line(stage: str, settings: Settings) -> list[str]:
    """The arguments of ``python -m vqvae_dist`` that give ``settings``."""
    arguments = [stage]
    for key, value in flatten(settings).items():
        *tables, name = key.replace("_", "-").split(".")
        if isinstance(value, bool):
            arguments.append(f"--{'.'.join([*tables, name if value else f'no-{name}'])}")
        else:
            arguments += [f"--{'.'.join([*tables, name])}", *map(str, value if isinstance(value, list) else [value])]
    return arguments


def train(stage: str, settings: Settings, *, float64: bool = False) -> str:
    """Run a training in this process."""
    if float64:
        torch.set_default_dtype(torch.float64)
    config = compose(STAGES[stage], Layer("test", settings))
    if stage == "train-vqvae":
        from vqvae_dist.training.vqvae import train_vqvae

        assert isinstance(config, VQVAEConfig)
        return train_vqvae(config)
    from vqvae_dist.training.pixelcnn import train_pixelcnn

    assert isinstance(config, PixelCNNConfig)
    return train_pixelcnn(config)


def train_in_process(stage: str, settings: Settings, float64: bool) -> None:
    """``train`` as the target of a process."""
    train(stage, settings, float64=float64)


class Outcome(NamedTuple):
    """What a training left."""

    tensors: dict[str, Tensor]
    """Of its newest checkpoint: ``model/encoder.0.weight`` and so on."""
    rows: list[dict[str, Any]]
    """Of metrics.jsonl."""

    @property
    def losses(self) -> list[float]:
        """train/loss of each logged step."""
        return [row["train/loss"] for row in self.rows if "train/loss" in row]


def outcome(path: Path) -> Outcome:
    """Read what the run in ``path`` left."""
    run = RunFolder(path)
    newest = run.checkpoints / (run.checkpoints / "latest").read_text().strip()
    parts = {file.stem: load_file(file) for file in sorted(newest.glob("*.safetensors"))}
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # they were a view of the file
    return Outcome(tensors, run.read_metrics())


def worst_difference(a: Outcome, b: Outcome) -> tuple[float, str]:
    """The largest |a - b| of a tensor's elements as a share of the tensor's largest element, and which tensor."""
    assert a.tensors.keys() == b.tensors.keys()
    found = []
    for name, tensor in a.tensors.items():
        one, two = tensor.double(), b.tensors[name].double()
        scale = max(float(two.abs().max()), 1e-30) if two.numel() else 1.0
        found.append((float((one - two).abs().max()) / scale if one.numel() else 0.0, name))
    return max(found)


def worst_loss(a: Outcome, b: Outcome, steps: int | None = None) -> float:
    """The largest relative difference of train/loss over the first ``steps`` steps (None: all)."""
    pairs = list(zip(a.losses[:steps], b.losses[:steps], strict=True))
    assert pairs
    return max(abs(x - y) / abs(y) for x, y in pairs)
