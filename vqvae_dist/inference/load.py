"""Loading the exported best model of a run: safetensors and JSON, checked before they are believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from data_tools.console import CommandError, UsageError
from vqvae_dist import allocator
from vqvae_dist.config import PixelCNNModelConfig, VQVAEModelConfig
from vqvae_dist.models.build import build_pixelcnn, build_vqvae
from vqvae_dist.models.prior import Prior
from vqvae_dist.models.vqvae import VQVAE
from vqvae_dist.run_folder import SCHEMA, RunFolder, read_sealed

C = TypeVar("C", VQVAEModelConfig, PixelCNNModelConfig)
M = TypeVar("M", bound=nn.Module)


class LoadedVQVAE(NamedTuple):
    """A trained VQ-VAE, on the device that is there, in float32, ready to be used without gradients."""

    model: VQVAE
    device: torch.device
    config: VQVAEModelConfig
    description: dict[str, Any]
    """model/config.json: run_id, step, data_digest, weights_sha256 and the settings of the model."""


class LoadedPixelCNN(NamedTuple):
    """A trained prior, as ``LoadedVQVAE``."""

    model: Prior
    device: torch.device
    config: PixelCNNModelConfig
    description: dict[str, Any]
    classes: list[str]
    """Names of the classes it knows; a condition's label counts in them."""


def load_vqvae(run: Path) -> LoadedVQVAE:
    """Load the best VQ-VAE of a run.

    Raises CommandError where the export is absent, damaged or not yet quantized, UsageError for a run of a prior.
    """
    description, tensors = read_export(run, stage="train-vqvae")
    config = _model_config(run, VQVAEModelConfig, description)
    model, device = _ready(run, build_vqvae(config), tensors)
    if not model.quantizer.is_ready:
        raise CommandError(f"{run}: its best model has no codebook yet (model.quantizer.init_after); train on")
    return LoadedVQVAE(model, device, config, description)


def load_pixelcnn(run: Path) -> LoadedPixelCNN:
    """Load the best prior of a run; errors as ``load_vqvae``. Which VQ-VAE it fits is for ``prior.load_pair``."""
    description, tensors = read_export(run, stage="train-pixelcnn")
    config = _model_config(run, PixelCNNModelConfig, description)
    try:
        codebook_size, classes = int(description["codebook_size"]), list(description["classes"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(run, "config.json does not give codebook_size and classes") from None
    model = build_pixelcnn(config, codebook_size=codebook_size, classes=len(classes))
    return LoadedPixelCNN(*_ready(run, model, tensors), config, description, classes)


def read_export(run: Path, *, stage: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read model/config.json and the weights of a run of ``stage`` after checking their SHA-256."""
    folder = RunFolder(run).model
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    if run.is_file():
        raise CommandError(f"{run}: a file; give the run folder, which python -m vqvae_dist {stage} made")
    if not run.is_dir():
        raise CommandError(f"{run}: no such run folder; python -m vqvae_dist {stage} --output-dir {run} makes one")
    if not (config_file.is_file() and weights_file.is_file()):
        if not RunFolder(run).config_file.is_file():
            raise CommandError(f"{run}: not a run folder (no config.json); give the folder of one run")
        raise CommandError(f"{run}: no model in {folder.name}/ yet; training writes it after its first validation")
    description = read_sealed(config_file)
    if description.get("stage") != stage:
        raise UsageError(f"{run}: a run of {description.get('stage')}; give a run of {stage}")
    if description.get("schema") != SCHEMA:
        raise CommandError(f"{config_file}: schema {description.get('schema')}, this version reads {SCHEMA}")
    content = weights_file.read_bytes()
    if hashlib.sha256(content).hexdigest() != description.get("weights_sha256"):
        raise _damaged(run, "checksum mismatch")
    try:
        return description, load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(run, str(error)) from None


def inference_device() -> torch.device:
    """Give the GPU where there is one, computing float32 as float32, else the CPU."""
    if not torch.cuda.is_available():
        allocator.keep_freed_memory()
        return torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def _model_config(run: Path, kind: type[C], description: dict[str, Any]) -> C:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(description["model"]))
    except (KeyError, ValidationError):  # its checksum holds
        file = RunFolder(run).model / "config.json"
        raise CommandError(f"{file}: a model of another version of this program; use the one that made it") from None


def _ready(run: Path, model: M, tensors: dict[str, Tensor]) -> tuple[M, torch.device]:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        what = str(error).splitlines()[-1].strip()
        raise _damaged(run, f"the weights do not fit the model: {what}") from None
    device = inference_device()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch lists no such call
    return model.eval().requires_grad_(False), device


def _damaged(run: Path, what: str) -> CommandError:
    return CommandError(
        f"{RunFolder(run).model / 'model.safetensors'}: damaged ({what}); going on with the training "
        "command, or training anew, writes it again"
    )
