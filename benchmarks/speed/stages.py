"""The suite's own trainings and phantoms, ready to be timed step by step."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from accelerate.state import AcceleratorState

from data_tools.pack import pack
from data_tools.phantom import phantom
from data_tools.settings import PackSettings, PhantomSettings
from data_tools.slicefile import SliceReader
from vqvae_dist import allocator
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose, nest, preset_layer
from vqvae_dist.run_folder import Attempt
from vqvae_dist.training.session import open_session
from vqvae_dist.training.vqvae import VQVAEStage

P = ParamSpec("P")
T = TypeVar("T")

PAPER = {
    "model.hidden": 128, "model.residual_layers": 2, "model.residual_hidden": 32,
    "model.codebook_size": 512, "model.code_dim": 64, "model.downsample": 4,
}  # fmt: skip
"""The widths and numbers of layers that every side of the comparison of training steps has."""


def phantoms(work: Path, *, subjects: int, slices: int, size: int) -> Path:
    """A folder of phantom slices as PNG."""
    folder = work / f"phantoms_{subjects}x{slices}_{size}"
    if not folder.is_dir():
        phantom(PhantomSettings(out_dir=folder, subjects=subjects, slices=slices, size=size))
    return folder


def packed_phantoms(work: Path, *, subjects: int, slices: int, size: int) -> Path:
    """Packed phantom slices."""
    file = work / f"phantoms_{subjects}x{slices}_{size}.h5"
    if not file.is_file():
        folder = phantoms(work, subjects=subjects, slices=slices, size=size)
        pack(PackSettings(src=(folder,), output=file))
    return file


def vqvae_stage(data: Path, run: Path, settings: dict[str, Any], *, preset: str = "full_resolution") -> VQVAEStage:
    """A VQ-VAE in training in this process, its codebook not initialised yet."""
    fixed = {"data.path": str(data), "output_dir": str(run), "tracking.mode": "disabled", "schedule.steps": 100_000}
    layers = [preset_layer(preset), Layer("benchmark", nest({**fixed, **settings}))]
    config = compose(VQVAEConfig, *layers)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one, and refuses another precision
    session = open_session(
        config, stage="train-vqvae", digest=SliceReader(data).digest, work=1e15, fresh=False, attempt=Attempt()
    )
    return VQVAEStage(config, session)


def warmed(stage: VQVAEStage) -> Any:
    """Take steps until the codebook is there and what has to be compiled is; return a batch to go on with."""
    first = stage.config.model.quantizer.init_after
    batch = next(stage.batches(range(1)))
    for step in range(first, first + 3):
        stage.train_step(step, batch)
    return batch


def with_plain_malloc(work: Callable[P, T], *arguments: P.args, **further: P.kwargs) -> T:
    """Call ``work`` in a process of its own, which gives freed memory back as any does that is not of the suite."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_prepare_peer) as pool:  # its process may start others
        return pool.submit(work, *arguments, **further).result()


def _prepare_peer() -> None:
    os.dup2(2, 1)  # as in the process that measures, whose stdout is its result
    allocator.keep_freed_memory = lambda: None


def fast_precision(device: str) -> str:
    """What ``precision.mixed auto`` comes to for a compiled training on this machine."""
    from vqvae_dist.training.runtime import cpu_has_bf16

    return "bf16" if (torch.cuda.is_available() if device == "cuda" else cpu_has_bf16()) else "no"
