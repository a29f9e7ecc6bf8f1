"""The prior's stage: what one step, one validation and one picture are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from data_tools.console import UsageError
from vqvae_dist.config import PixelCNNConfig
from vqvae_dist.data.code_batches import CodesBatch, TrainingCodes
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.data.codes_digest import check_digest
from vqvae_dist.data.loading import read_ahead
from vqvae_dist.data.scratch import dropping_damaged, on_scratch
from vqvae_dist.models.build import build_pixelcnn
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import Prior, code_nll
from vqvae_dist.pictures import Picture
from vqvae_dist.run_folder import Attempt
from vqvae_dist.training.compiling import Compiling
from vqvae_dist.training.optim import averaged_model, clip_and_step, lr_at, make_optimizer
from vqvae_dist.training.pixelcnn_validation import PixelCNNValidation
from vqvae_dist.training.reduce import exchange
from vqvae_dist.training.run import run_stage
from vqvae_dist.training.runtime import training_work
from vqvae_dist.training.session import Session, open_session
from vqvae_dist.training.stage import StepReport, check_finite
from vqvae_dist.training.vqvae_validation import scoring

POSITION_QUANTILES = 21
"""Numbers that describe where the training slices lie, kept with the model."""


def train_pixelcnn(config: PixelCNNConfig, *, fresh: bool = False, attempt: Attempt | None = None) -> str:
    """Train a prior into ``config.output_dir``, or go on with it; return ``completed`` or ``stopped``."""
    reader = CodesReader(config.data.path)
    if not any(len(reader.rows(group.name, config.data.train_split, views=True)) for group in reader.groups):
        raise UsageError(f"{config.data.path}: no codes in split {config.data.train_split!r} (data.train_split)")
    if config.model.condition_class and not reader.classes:
        raise UsageError(f"model.condition_class is on, but {config.data.path} carries no classes; leave it off")
    check_digest(reader)  # which the run is known by
    cells = max(math.prod(group.grid) for group in reader.groups)
    schedule, model = config.schedule, config.model
    work = training_work(schedule.steps, schedule.batch_size, LAYER_WORK * model.layers * cells, model.hidden)
    if not torch.cuda.is_available():
        work = 0.0  # on a CPU the convolutions are all there is, and compiling makes none of them faster
    session = open_session(
        config, stage="train-pixelcnn", digest=reader.digest, work=work, fresh=fresh, attempt=attempt or Attempt()
    )
    with dropping_damaged(config.data.path, reader.digest):
        return run_stage(config, session, lambda opened: PixelCNNStage(config, opened, reader))


LAYER_WORK = 10
"""What a gated layer costs at a cell, in the unit of ``training_work``: a VQ-VAE's cost at a pixel."""


class PixelCNNStage:
    """A prior in training; see ``training.stage.Stage``."""

    best_metric = "min validate/bits_per_code"

    def __init__(self, config: PixelCNNConfig, session: Session, reader: CodesReader) -> None:
        self.config, self.session, self.runtime, self.reader = config, session, session.runtime, reader
        self.share, self.micro = session.shares(config.schedule)
        torch.manual_seed(config.seed)
        model = build_pixelcnn(config.model, codebook_size=reader.codebook_size, classes=len(reader.classes))
        model = model.to(self.runtime.device).to(memory_format=torch.channels_last)
        model.recompute = config.precision.activation_checkpointing
        self.prior, self.model = model, cast(nn.Module, model)
        self.averaged = averaged_model(model, config.model.ema) if config.model.ema else None
        optimizer = make_optimizer(model, config.optim)
        self.wrapped, self.optimizer = self.runtime.accelerator.prepare(model, optimizer)
        self.compiling = Compiling(model.compiled_parts(), enabled=self.runtime.precision.compile)
        scratch = config.data.preload == "scratch"
        self.codes = TrainingCodes(
            on_scratch(config.data.path, reader.digest) if scratch else config.data.path,
            config.data.train_split,
            in_memory=config.data.preload == "ram",
            seed=config.seed,
            batch_size=config.schedule.batch_size,
            rank=self.runtime.rank,
            share=self.share,
            digest=reader.digest,
        )
        self.order = self.codes.order
        self.memory: dict[str, Tensor] = {}
        self.validation = PixelCNNValidation(config, self.runtime, reader)

    def batches(self, steps: range) -> Iterator[CodesBatch]:
        """This process's share of each step's batch."""
        return read_ahead(self.codes, steps, workers=self.config.data.workers)

    def train_step(self, step: int, batch: CodesBatch) -> StepReport:
        """Update the prior once on a global batch, in micro-batches of (b, h, w) codes."""
        with self.compiling.context(tuple(batch.codes.shape)), self.runtime.memory.taken():
            loss = self.forward_backward(batch)
        stop = self.runtime.agree()
        exchange(self.runtime, self.model.parameters(), loss)
        total = float(loss)
        check_finite(total, step, batch.names)
        lr = lr_at(step, self.config.optim, self.session.milestones, self.session.warmup)
        stepped, norm = clip_and_step(
            self.wrapped, self.optimizer, self.runtime, lr=lr, clip=self.config.optim.gradient_clip
        )
        if stepped and self.averaged:
            self.averaged.update_parameters(self.model)
        values = {"loss": total, "bits_per_code": total / math.log(2), "lr": lr, "grad_norm": float(norm)}
        return StepReport(values, stepped, stop)

    def forward_backward(self, batch: CodesBatch) -> Tensor:
        """Add up the gradient of this process's share; return its mean loss () in nats a code."""
        with self.runtime.accelerator.no_sync(self.wrapped):
            return torch.stack([self.micro_step(*part) for part in self.micro_batches(batch)]).sum()

    def micro_batches(self, batch: CodesBatch) -> Iterator[tuple[Tensor, Condition, Tensor]]:
        """Codes, conditions and keys, a micro-batch at a time."""
        for first in range(0, self.share, self.micro):
            part = slice(first, first + self.micro)
            codes, position, label, flipped, keys = (
                tensor[part].to(self.runtime.device, non_blocking=True) for tensor in batch[:5]
            )
            yield codes, Condition(position, label, flipped), keys

    def micro_step(self, codes: Tensor, condition: Condition, keys: Tensor) -> Tensor:
        """Add the gradient of a micro-batch of (b, h, w) codes; return its part of the mean loss."""
        logits = self.wrapped(codes, condition, self.prior.dropout_masks(keys))
        loss = code_nll(logits, codes).mean() * (len(codes) / self.share)
        self.runtime.accelerator.backward(loss)
        return loss.detach()

    def validate(self) -> dict[str, float | None]:
        """validate/ metrics of the weights that are scored; every process calls it."""
        with scoring(self.scored) as model:
            return self.validation.scores(model)

    def picture(self) -> Picture | None:
        """Held-out codes, what the prior expected in their place, and how surprised it was."""
        with scoring(self.scored) as model:
            return self.validation.picture(model)

    @property
    def scored(self) -> Prior:
        """The weights that are scored and exported: averaged, where weights are averaged."""
        return cast(Prior, self.averaged.module) if self.averaged else self.prior

    def histograms(self) -> dict[str, npt.NDArray[np.float64]]:
        """None."""
        return {}

    def finale(self, weights: Path) -> dict[str, Picture]:
        """Samples of the best weights, each cell shown by the mean image under its code."""
        self.scored.load_state_dict(load_file(weights))
        with scoring(self.scored) as model:
            return {"samples": self.validation.samples(model, seed=self.config.seed)}

    def description(self) -> dict[str, Any]:
        """What building the prior and drawing from it needs beside the settings; the first label counted is none."""
        attributes = self.reader.attributes
        split = self.config.data.train_split
        rows = {group.name: self.reader.rows(group.name, split, views=False) for group in self.reader.groups}
        largest = max(self.reader.groups, key=lambda group: len(rows[group.name]))
        indexes = [(self.reader.index(name), chosen) for name, chosen in rows.items()]
        positions = np.concatenate([index.position[chosen] for index, chosen in indexes])
        labels = np.concatenate([index.label[chosen] for index, chosen in indexes])
        return {
            "codebook_size": self.reader.codebook_size,
            "classes": self.reader.classes,
            "label_counts": np.bincount(labels + 1, minlength=len(self.reader.classes) + 1).tolist(),
            "position_quantiles": np.quantile(positions, np.linspace(0, 1, POSITION_QUANTILES)).tolist(),
            "size": list(largest.size),
            "vqvae": {name: attributes[f"vqvae_{name}"] for name in ("run_id", "weights_sha256")},
        }
