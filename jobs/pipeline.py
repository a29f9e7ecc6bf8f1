"""What follows the array: the stages there are, what each may be told, and the command line that runs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.console import UsageError
from data_tools.hints import did_you_mean, near_or_allowed
from jobs.config import RESOURCE_KEYS, Settings, base_layer
from jobs.idle import set_by_base, warn_of_idle
from jobs.stage_options import OPTIONS
from vqvae_dist.config import PixelCNNConfig
from vqvae_dist.config_io import Layer, compose, flatten, nest
from vqvae_dist.files import sha256_file
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder

TRAIN_PRIOR = "train-pixelcnn"

NEEDS: dict[str, str] = {TRAIN_PRIOR: "extract-codes", "generate": TRAIN_PRIOR}
"""A stage and the one that has to run before it."""

STAGES_BY_ARRAY: dict[str, tuple[str, ...]] = {"train-vqvae": tuple(OPTIONS), TRAIN_PRIOR: ("report",)}
"""Stages that may follow an array of each training."""

DEFAULTS: dict[str, Settings] = {
    "generate": {"num-samples": 16},
    "evaluate": {"split": "test"},
    "reconstruct": {"split": "test"},
}


@dataclass(frozen=True)
class PipelineStage:
    """A stage with its options and, where they differ from the profile, its resources."""

    name: str
    options: Settings = field(default_factory=dict)
    resources: Settings = field(default_factory=dict)
    base: str = ""
    """Of ``train-pixelcnn``: a preset or a TOML file, absolute."""

    @property
    def needs_gpus(self) -> bool:
        """Whether it computes on images, so that it is given the profile's devices."""
        return self.name not in ("report", "animate")

    @property
    def is_training(self) -> bool:
        """Whether it uses all processes of a run; the other stages are one process."""
        return self.name == TRAIN_PRIOR


@dataclass(frozen=True)
class PipelineFolder:
    """ROOT/NAME/pipeline/VQVAE_RUN_ID: what came of a chosen member."""

    path: Path

    @property
    def codes(self) -> Path:
        """Codes of all slices."""
        return self.path / "codes.h5"

    @property
    def prior(self) -> Path:
        """Run folder of the PixelCNN."""
        return self.path / "prior"

    @property
    def prior_settings(self) -> Path:
        """Settings the PixelCNN is trained with."""
        return self.path / "prior.toml"

    @property
    def picture(self) -> Path:
        """Generated brains."""
        return self.path / "Pic" / "PixelCNN_generate.jpg"

    @property
    def evaluation(self) -> Path:
        """Folder of metrics.json and per_slice.csv."""
        return self.path / "evaluate"

    @property
    def reconstructions(self) -> Path:
        """Folder of pictures of reconstructed slices."""
        return self.path / "reconstruct"

    @property
    def animation(self) -> Path:
        """The same slices through training."""
        return self.path / "animation.gif"

    @property
    def done_file(self) -> Path:
        """Which stages are done, and with what settings."""
        return self.path / "stages.json"

    def done(self) -> dict[str, Any]:
        """What that file holds."""
        return read_json(self.done_file) if self.done_file.is_file() else {}

    def output(self, stage: str) -> Path:
        """What a stage leaves when it is done."""
        outputs = {
            "extract-codes": self.codes,
            TRAIN_PRIOR: self.prior,
            "generate": self.picture,
            "evaluate": self.evaluation,
            "reconstruct": self.reconstructions,
            "animate": self.animation,
        }
        return outputs[stage]


def read_stages(
    then: Sequence[str], tables: dict[str, Settings], *, allowed: Sequence[str], path: Path
) -> tuple[PipelineStage, ...]:
    """Check ``then`` and the ``[pipeline.STAGE]`` tables of a sweep file and put them together."""
    for position, name in enumerate(then):
        if name not in allowed:
            raise UsageError(
                f"{path}: [pipeline] then: no stage {name!r} behind this array; allowed: {', '.join(allowed)}"
                + did_you_mean(name, list(allowed))
            )
        if name in then[:position]:
            raise UsageError(f"{path}: [pipeline] then: {name} stands there twice")
        if name in NEEDS and NEEDS[name] not in then[:position]:
            raise UsageError(f"{path}: [pipeline] then: {name} needs {NEEDS[name]} before it")
    for name in tables:
        if name not in then:
            near = did_you_mean(name, then)
            raise UsageError(f"{path}: [pipeline.{name}] is set, but then doesn't hold {name}{near}")
    return tuple(_read_stage(name, tables.get(name, {}), path) for name in then)


def _read_stage(name: str, table: Settings, path: Path) -> PipelineStage:
    resources = {key: value for key, value in table.items() if key in RESOURCE_KEYS}
    rest = {key: value for key, value in table.items() if key not in RESOURCE_KEYS}
    if name == TRAIN_PRIOR:
        base = str(rest.pop("base", "pixelcnn"))
        base = str((path.parent / base).resolve()) if base.endswith(".toml") else base
        stage = PipelineStage(name, rest, resources, base)
        source = f"{path} [pipeline.{name}]"
        config = compose_prior(stage, source=source, codes=Path("codes.h5"))
        below = set_by_base([base_layer(base, source, PixelCNNConfig)], PixelCNNConfig)
        warn_of_idle([config], below | {source: flatten(nest(rest))})
        return stage
    options = {key.replace("_", "-"): value for key, value in rest.items()}
    known = sorted({*OPTIONS[name], *RESOURCE_KEYS})
    for key, value in options.items():
        option, source, given = OPTIONS[name].get(key), f"{path}: [pipeline.{name}]", json.dumps(value)
        if option is None:
            raise UsageError(f"{source}: unknown key {key}, given {given}{near_or_allowed(key, known)}")
        if not option.fits(value):
            raise UsageError(f"{source}: {key} must be {option.wanted}, got {given}")
    return PipelineStage(name, DEFAULTS.get(name, {}) | options, resources)


def compose_prior(
    stage: PipelineStage, *, source: str, codes: Path, tracking: Settings | None = None
) -> PixelCNNConfig:
    """The settings of the pipeline's PixelCNN; UsageError for a setting that doesn't fit.

    ``tracking`` is the chosen member's, for what neither the stage nor its base says.
    """
    for key in ("data.path", "output_dir"):
        if key in stage.options:
            raise UsageError(f"{source}: {key} is the pipeline's to choose; leave it out")
    inherited = Layer("the chosen member", {"tracking": tracking or {}})
    paths = Layer("pipeline", {"data": {"path": str(codes)}})
    own = Layer(source, nest(stage.options))
    return compose(PixelCNNConfig, inherited, base_layer(stage.base, source, PixelCNNConfig), own, paths)


def command_line(stage: PipelineStage, folder: PipelineFolder, *, vqvae: Path, data: str) -> list[str]:
    """The ``vqvae_dist`` command that does a stage."""
    target = ["--output", str(folder.output(stage.name))]
    run, file, prior = ["--run", str(vqvae)], ["--data", data], ["--pixelcnn", str(folder.prior)]
    options = _flags(stage.options)
    match stage.name:
        case "extract-codes":
            return ["extract-codes", *run, *file, *target, *options]
        case "train-pixelcnn":
            return [TRAIN_PRIOR, "--config", str(folder.prior_settings), "--output-dir", str(folder.prior)]
        case "generate":
            return ["generate", "--vqvae", str(vqvae), *prior, *target, *options]
        case "evaluate":
            with_prior = prior if folder.prior.is_dir() else []
            return ["evaluate", *run, *file, *target, *with_prior, *options]
        case "reconstruct":
            return ["reconstruct", *run, *file, *target, *options]
        case "animate":
            return ["animate", *run, *target]
    raise AssertionError(stage.name)


def _flags(options: dict[str, Any]) -> list[str]:
    return [text for key, value in options.items() for text in (f"--{key}", str(value))]


def stage_key(stage: PipelineStage, target: PipelineFolder, vqvae: Path) -> str:
    """What a stage's output depends on, as a digest: its options and the weights it uses."""
    models = [RunFolder(vqvae), RunFolder(target.prior)] if stage.name != "extract-codes" else [RunFolder(vqvae)]
    weights = [sha256_file(file) for model in models if (file := model.model / "model.safetensors").is_file()]
    return hashlib.sha256(json.dumps([stage.options, weights], sort_keys=True).encode()).hexdigest()


def is_current(pipeline: Sequence[PipelineStage], name: str, target: PipelineFolder, vqvae: Path) -> bool:
    """Whether what a stage left was made with its present options, from the weights that are there."""
    stage = next((stage for stage in pipeline if stage.name == name), None)
    return stage is not None and target.done().get(name) == stage_key(stage, target, vqvae)
