"""The VQ-VAE's stage: what one step, one validation and one picture are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data_tools.console import UsageError, warn
from data_tools.slicefile import SliceReader
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.data.loading import read_ahead
from vqvae_dist.data.scratch import dropping_damaged, on_scratch
from vqvae_dist.data.slices import SliceBatch, TrainingSlices, check_sizes
from vqvae_dist.models.build import build_vqvae
from vqvae_dist.models.quantizer import SAMPLES, CodeStatistics
from vqvae_dist.models.vqvae import VQVAE
from vqvae_dist.pictures import Picture
from vqvae_dist.run_folder import Attempt
from vqvae_dist.training.codebook_health import CodebookHealth
from vqvae_dist.training.compiling import Compiling
from vqvae_dist.training.losses import Losses, vqvae_losses
from vqvae_dist.training.optim import averaged_model, clip_and_step, lr_at, make_optimizer
from vqvae_dist.training.reduce import exchange
from vqvae_dist.training.run import run_stage
from vqvae_dist.training.runtime import training_work
from vqvae_dist.training.session import Session, open_session
from vqvae_dist.training.stage import StepReport, check_finite
from vqvae_dist.training.vqvae_validation import VQVAEValidation, scoring


def train_vqvae(config: VQVAEConfig, *, fresh: bool = False, attempt: Attempt | None = None) -> str:
    """Train a VQ-VAE into ``config.output_dir``, or go on with it; return ``completed`` or ``stopped``."""
    reader = SliceReader(config.data.path)
    if not any(len(reader.rows(group.name, config.data.train_split)) for group in reader.groups):
        raise UsageError(f"{config.data.path}: no slices in split {config.data.train_split!r} (data.train_split)")
    splits = (config.data.train_split, config.data.validate_split)
    used = [group.name for group in reader.groups if any(len(reader.rows(group.name, split)) for split in splits)]
    check_sizes(reader, used)
    reader.check_digest()  # which the run is known by
    crop = config.data.crop
    pixels = max((min(g.height, crop or g.height) * min(g.width, crop or g.width) for g in reader.groups), default=0)
    work = training_work(config.schedule.steps, config.schedule.batch_size, pixels, config.model.hidden)
    session = open_session(
        config, stage="train-vqvae", digest=reader.digest, work=work, fresh=fresh, attempt=attempt or Attempt()
    )
    longest = max((max(reader.group(name).height, reader.group(name).width) for name in used), default=0)
    if session.owner and crop > longest:
        warn(f"data.crop {crop} is larger than every slice (at most {longest} pixels a side): whole slices are taken")
    with dropping_damaged(config.data.path, reader.digest):
        return run_stage(config, session, lambda opened: VQVAEStage(config, opened))


class MicroResult(NamedTuple):
    """What a forward and backward pass over a micro-batch leaves for the step."""

    losses: Losses
    statistics: CodeStatistics | None
    samples: Tensor | None


class VQVAEStage:
    """A VQ-VAE in training; see ``training.stage.Stage``."""

    best_metric = "max validate/ssim_foreground"

    def __init__(self, config: VQVAEConfig, session: Session) -> None:
        self.config, self.session, self.runtime = config, session, session.runtime
        self.share, self.micro = session.shares(config.schedule)
        torch.manual_seed(config.seed)
        model = build_vqvae(config.model).to(self.runtime.device).to(memory_format=torch.channels_last)
        model.recompute = config.precision.activation_checkpointing
        self.model: nn.Module = model
        self.quantizer = model.quantizer
        self.averaged = averaged_model(model, config.model.ema) if config.model.ema else None
        optimizer = make_optimizer(model, config.optim)
        self.wrapped, self.optimizer = self.runtime.accelerator.prepare(model, optimizer)
        self.compiling = Compiling([model.encoder, model.decoder], enabled=self.runtime.precision.compile)
        path, digest = config.data.path, session.identity["data_digest"]
        if config.data.preload == "scratch":
            path = on_scratch(path, digest)
        self.slices = TrainingSlices(
            path,
            config.data,
            seed=config.seed,
            batch_size=config.schedule.batch_size,
            rank=self.runtime.rank,
            share=self.share,
            digest=digest,
        )
        self.order = self.slices.order
        self.health = CodebookHealth(self.quantizer, self.order)
        self.memory = self.health.memory
        self.picture_counts = np.zeros(config.model.codebook_size)
        self.validation = VQVAEValidation(config, self.runtime, SliceReader(path, digest))

    def batches(self, steps: range) -> Iterator[SliceBatch]:
        """This process's share of each step's batch."""
        return read_ahead(self.slices, steps, workers=self.config.data.workers)

    def train_step(self, step: int, batch: SliceBatch) -> StepReport:
        """Update networks and codebook once on a global batch, in micro-batches of (b, 1, H, W)."""
        with self.compiling.context(tuple(batch.images.shape)), self.runtime.memory.taken():
            parts = self.forward_backward(step, batch)
        stop = self.runtime.agree()
        losses = torch.stack([torch.stack(part.losses) for part in parts]).sum(0)
        statistics = merge([part.statistics for part in parts])
        statistics = exchange(self.runtime, self.model.parameters(), losses, statistics)
        total, reconstruction, commitment = losses.tolist()
        check_finite(total, step, batch.names)
        lr = lr_at(step, self.config.optim, self.session.milestones, self.session.warmup)
        stepped, norm = clip_and_step(
            self.wrapped, self.optimizer, self.runtime, lr=lr, clip=self.config.optim.gradient_clip
        )
        if stepped:
            self.update_codebook(step, statistics, parts)
            if self.averaged:
                self.averaged.update_parameters(self.model)
        values = {"loss": total, "reconstruction": reconstruction, "commitment": commitment, "lr": lr}
        values |= {"grad_norm": float(norm), "revived": float(self.quantizer.revived)}
        warning = ""
        if statistics is not None:
            health, warning = self.health.after(step, statistics)
            values |= health
        return StepReport(values, stepped, stop, warning)

    def forward_backward(self, step: int, batch: SliceBatch) -> list[MicroResult]:
        """Add up the gradient of this process's share; ``exchange`` averages it over the processes."""
        with self.runtime.accelerator.no_sync(self.wrapped):
            return [self.micro_step(step, *part) for part in self.micro_batches(batch)]

    def micro_batches(self, batch: SliceBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and keys, a micro-batch at a time."""
        dtype = next(self.model.parameters()).dtype
        for first in range(0, self.share, self.micro):
            part = slice(first, first + self.micro)
            images = batch.images[part].to(self.runtime.device, dtype, non_blocking=True)
            keys = batch.keys[part].to(self.runtime.device, non_blocking=True)
            yield images, keys

    def micro_step(self, step: int, images: Tensor, keys: Tensor) -> MicroResult:
        """Add the gradient of a micro-batch of (b, 1, H, W) images."""
        share = len(images) / self.share
        output = self.wrapped(images, keys, self.samples_a_slice(step))
        losses = vqvae_losses(images, output, self.config.loss, self.config.model.quantizer.commitment)
        self.runtime.accelerator.backward(losses.total * share)
        means = Losses(*[loss.detach() * share for loss in losses])
        return MicroResult(means, output.statistics, output.samples)

    def samples_a_slice(self, step: int) -> int:
        """Encoder outputs wanted from each slice; 0 but at the step that initialises the codebook."""
        if self.quantizer.is_ready or step < self.config.model.quantizer.init_after:
            return 0
        return max(16, SAMPLES // self.config.schedule.batch_size)

    def update_codebook(self, step: int, statistics: CodeStatistics | None, parts: list[MicroResult]) -> None:
        """Initialise, or move averages and revive: once an optimizer step, alike on all ranks."""
        if statistics is not None:
            self.quantizer.update(statistics)
            self.picture_counts += statistics.counts.double().cpu().numpy()
        elif self.samples_a_slice(step):
            mine = torch.cat([part.samples for part in parts if part.samples is not None])  # (b, S, D)
            samples = self.runtime.gather_slots(mine).flatten(0, 2)  # ranks hold successive slices of the batch
            self.quantizer.initialise(samples)
            self.runtime.broadcast([self.quantizer.weight, self.quantizer.counts, self.quantizer.sums])

    def validate(self) -> dict[str, float | None]:
        """validate/ metrics of the weights that are scored; every process calls it. None before there are codes."""
        if not self.quantizer.is_ready:
            return {}
        with scoring(self.scored) as model:
            return self.validation.scores(model)

    def picture(self) -> Picture | None:
        """Some validation slices above their reconstructions."""
        with scoring(self.scored) as model:
            return self.validation.picture(model)

    @property
    def scored(self) -> VQVAE:
        """The weights that are scored and exported: averaged, where weights are averaged."""
        if self.averaged is None:
            return cast(VQVAE, self.model)
        averaged = cast(VQVAE, self.averaged.module)
        averaged.quantizer.read_ready()  # averaging copies the buffer, not the bool that was read from it
        return averaged

    def histograms(self) -> dict[str, npt.NDArray[np.float64]]:
        """How often each code was chosen since the last picture."""
        counts, self.picture_counts = self.picture_counts, np.zeros_like(self.picture_counts)
        return {"codebook/counts": counts} if counts.any() else {}

    def finale(self, weights: Path) -> dict[str, Picture]:
        """None beside those on the way."""
        return {}

    def description(self) -> dict[str, Any]:
        """Nothing beside the settings is needed to build a VQ-VAE."""
        return {}


def merge(parts: list[CodeStatistics | None]) -> CodeStatistics | None:
    """Add up the statistics of micro-batches."""
    found = [part for part in parts if part is not None]
    return sum(found[1:], start=found[0]) if found else None
