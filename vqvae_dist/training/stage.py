"""What the training loop needs to know of a VQ-VAE or a prior in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from data_tools.console import CommandError
from vqvae_dist.data.order import SampleOrder
from vqvae_dist.pictures import Picture


class StepReport(NamedTuple):
    """What a step did, the same on every process."""

    values: dict[str, float]
    """train/ metrics; ``loss`` among them."""
    stepped: bool
    """False for a float16 step skipped for non-finite gradients."""
    stop: bool
    """A process was asked to stop."""
    warning: str = ""
    """What has to be said aloud, once; mostly empty."""


class Stage(Protocol):
    """What the loop needs to know of a VQ-VAE or a prior in training."""

    best_metric: str
    """Like ``max validate/ssim_foreground``."""
    model: nn.Module
    """Unwrapped, on its device."""
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    order: SampleOrder
    memory: dict[str, Tensor]
    """What a checkpoint keeps beside model and optimizer, on the CPU; filled in place."""

    def batches(self, steps: range) -> Iterator[Any]:
        """This process's share of each step's batch."""

    def train_step(self, step: int, batch: Any) -> StepReport:
        """Update the model once on a global batch."""

    def validate(self) -> dict[str, float | None]:
        """validate/ metrics over the whole split; every process calls it. Empty without a split."""

    def picture(self) -> Picture | None:
        """What the model makes now; the main process calls it."""

    def histograms(self) -> dict[str, npt.NDArray[np.float64]]:
        """Counts worth a histogram, by name."""

    def finale(self, weights: Path) -> dict[str, Picture]:
        """Pictures worth taking once, of the exported ``weights``; the main process calls it when all have ended."""

    def description(self) -> dict[str, Any]:
        """What model/config.json says beside the settings."""


def check_finite(total: float, step: int, names: list[str]) -> None:
    """Raise CommandError for a loss that is not finite, before it reaches the weights."""
    if not math.isfinite(total):
        raise CommandError(
            f"step {step}: the loss is not finite ({total}); slices {', '.join(names)}; "
            "try a smaller optim.lr or a longer optim.warmup, or look at these slices"
        )
