from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from data_tools.slice_format import COLUMNS, FORMAT, SOURCE_COLUMNS, SPLITS, VERSION, content_digest
from vqvae_dist.config import PixelCNNModelConfig, QuantizerConfig, VQVAEModelConfig
from vqvae_dist.data.codes_writer import write_attributes
from vqvae_dist.json_files import read_json
from vqvae_dist.models.build import build_pixelcnn, build_vqvae
from vqvae_dist.run_folder import SCHEMA, Attempt, Ownership, RunFolder
from vqvae_dist.training.checkpoint import export_model

Make = Callable[..., Path]

TINY = VQVAEModelConfig(
    hidden=8, residual_layers=1, residual_hidden=4, downsample=4, codebook_size=16, code_dim=4,
    quantizer=QuantizerConfig(init="data"),
)  # fmt: skip


def head(height: int, width: int, subject: int, place: int) -> npt.NDArray[np.float64]:
    """An ellipse with two bright spots on black; alike for neighbouring places, different for subjects."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = 0.75 + 0.02 * subject - 0.1 * place
    tissue = 0.45 + 0.1 * np.sin((4 + subject) * x + place) * np.cos(5 * y)
    spots = sum(np.exp(-(((x - side * 0.3) ** 2 + (y - 0.1 * place) ** 2) / 0.02)) for side in (-1, 1))
    return np.where(x**2 + y**2 < radius**2, tissue + 0.4 * spots, 0).clip(0, 1)


@pytest.fixture
def pack(tmp_path: Path) -> Make:
    """Write a packed file: ``pack(name, splits, shapes)`` with 3 slices of each subject in each shape."""

    def make(
        name: str = "brain.h5", splits: Sequence[str] = ("train",) * 4 + ("validate", "test", "test"), **options: Any
    ) -> Path:
        return write_packed(tmp_path / name, splits, **options)

    return make


def write_packed(
    path: Path,
    splits: Sequence[str],
    *,
    shapes: Sequence[tuple[int, int, str]] = ((32, 40, "uint8"),),
    slices: int = 3,
    noisy_air: bool = False,
    rules: Sequence[str] = ("known name",),
    classes: Sequence[str] = (),
    labels: Sequence[int] | None = None,
) -> Path:
    """Write a packed file by its documented layout, without what packs real files."""
    subjects = range(len(splits))
    with h5py.File(path, "w") as file:
        for height, width, dtype in shapes:
            top = 255 if dtype == "uint8" else 4000
            pixels = [top * head(height, width, subject, place) for subject in subjects for place in range(slices)]
            write_group(file, np.round(np.stack(pixels)).astype(dtype), splits, slices, labels or [-1] * len(splits))
        names = [f"case_{subject:03d}".encode() for subject in subjects]
        for name, (dtype, shape) in SOURCE_COLUMNS.items():
            value = noisy_air if name == "noisy_air" else 0
            file.create_dataset(f"sources/{name}", data=np.full((len(splits), *shape), value, dtype), fletcher32=True)
        for name, values in {
            "sources/path": names,
            "subjects/name": names,
            "classes/name": [name.encode() for name in classes],
        }.items():
            file.create_dataset(name, data=np.array(values, h5py.string_dtype("utf-8", 20)))
        about = {"format": FORMAT, "version": VERSION, "compression": "none"}
        rules_text = json.dumps(dict.fromkeys(rules, 1))
        write_attributes(file, {**about, "subject_rules_json": rules_text, "digest": content_digest(file)})
    return path


def write_group(
    file: h5py.File, pixels: npt.NDArray[Any], splits: Sequence[str], slices: int, labels: Sequence[int]
) -> None:
    count, height, width = pixels.shape
    subject, place = np.divmod(np.arange(count), slices)
    values = {
        "source": subject,
        "subject": subject,
        "slice_index": place,
        "position": (place + 0.5) / slices,
        "split": np.array([SPLITS.index(split) for split in splits])[subject],
        "label": np.array(labels)[subject],
        "window": np.tile([0, 255 if pixels.dtype == np.uint8 else 4000], (count, 1)),
        "sha256": [np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8) for image in pixels],
    }
    group = file.create_group(f"images/{height}x{width}_{pixels.dtype}")
    group.create_dataset("slices", data=pixels, chunks=(1, height, width), fletcher32=True)
    for name, (dtype, _) in COLUMNS.items():
        group.create_dataset(name, data=np.asarray(values[name], dtype), fletcher32=True)


@pytest.fixture
def vqvae_run(tmp_path: Path) -> Make:
    """Write the export of an untrained, initialised VQ-VAE: ``vqvae_run(name, data_digest=..., vivid=...)``."""

    def make(
        name: str = "vqvae",
        *,
        data_digest: str = "none",
        seed: int = 0,
        config: VQVAEModelConfig = TINY,
        vivid: bool = False,
    ) -> Path:
        torch.manual_seed(seed)
        model = build_vqvae(config)
        images = torch.stack([torch.from_numpy(head(32, 40, s, p)).float() for s in range(4) for p in range(3)])
        with torch.no_grad():
            outputs = model.encoder(images[:, None]).permute(0, 2, 3, 1).reshape(-1, config.code_dim)
        model.quantizer.initialise(outputs)
        if vivid:  # what an untrained decoder makes of codes is all but black
            for parameter in model.decoder.parameters():
                parameter.data.mul_(4)
        return export(tmp_path / name, model, {"stage": "train-vqvae", "data_digest": data_digest}, config)

    return make


@pytest.fixture
def pixelcnn_run(tmp_path: Path) -> Make:
    """Write the export of an untrained prior over the codes of a VQ-VAE's run."""

    def make(vqvae: Path, name: str = "prior", *, classes: Sequence[str] = ()) -> Path:
        torch.manual_seed(1)
        config = PixelCNNModelConfig(layers=2, hidden=8, dilations=(1, 2), condition_class=bool(classes))
        model = build_pixelcnn(config, codebook_size=TINY.codebook_size, classes=len(classes))
        exported = read_json(RunFolder(vqvae).model / "config.json")
        about = {
            "stage": "train-pixelcnn",
            "codebook_size": TINY.codebook_size,
            "classes": list(classes),
            "label_counts": [3, *(1 for _ in classes)],
            "position_quantiles": [0.1, 0.5, 0.9],
            "size": [30, 37],
            "vqvae": {name: exported[name] for name in ("run_id", "weights_sha256")},
        }
        return export(tmp_path / name, model, about, config)

    return make


def export(path: Path, model: nn.Module, about: dict[str, Any], config: VQVAEModelConfig | PixelCNNModelConfig) -> Path:
    path.mkdir()
    run = RunFolder(path)
    description = {"schema": SCHEMA, "run_id": path.name, "fingerprint": "0" * 64, "step": 5, "model": asdict(config)}
    export_model(run, model.state_dict(), {**description, **about}, Ownership(run, Attempt()))
    return path


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sliced Wasserstein distance draws as many patches as 288-pixel slices need; here a few do."""
    monkeypatch.setattr("vqvae_dist.metrics.samples._PATCHES", 2048)
