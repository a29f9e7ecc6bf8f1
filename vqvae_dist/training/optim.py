"""AdamW, the learning rate as a function of the step, and the one place where weights are stepped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vqvae_dist.config import OptimConfig
from vqvae_dist.training.runtime import Runtime


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); weight decay leaves biases, normalisations, embeddings and codes alone."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim > 1 and "embed" not in name and name != "quantizer.weight"]
    chosen = {id(p) for p in decayed}
    others = [p for _, p in named if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def lr_at(step: int, config: OptimConfig, milestones: tuple[int, ...], warmup: int) -> float:
    """Learning rate of step ``step`` (from 0): a linear warm-up, then ``gamma`` at each milestone passed."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return config.lr * rise * config.gamma ** sum(step >= milestone for milestone in milestones)


class StepOutcome(NamedTuple):
    """What happened to the weights."""

    stepped: bool
    """False for a float16 step skipped for non-finite gradients."""

    grad_norm: Tensor
    """() norm of the whole gradient before clipping."""


def clip_and_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, runtime: Runtime, *, lr: float, clip: float
) -> StepOutcome:
    """Clip the gradient's norm to ``clip`` (0: only measure it) and step with ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = torch.tensor(float("nan"))
    with runtime.memory.taken():
        norm = runtime.accelerator.clip_grad_norm_(model.parameters(), clip or float("inf"))
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepOutcome(not runtime.accelerator.optimizer_step_was_skipped, norm)


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights; buffers (the codebook) are copied as they are.

    The decay rises from 0.1 to ``decay`` in the first steps, so that a short run is not averaged with its start.
    """

    @torch.no_grad()
    def average(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        n = int(updates)
        torch._foreach_lerp_(list(averages), list(weights), 1.0 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(model, multi_avg_fn=average, use_buffers=False)
