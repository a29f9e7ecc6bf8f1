"""What validation, checkpoints and reading take of a training, at the default cadence of the best preset."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.speed.row import Options, Row, median_seconds
from benchmarks.speed.stages import fast_precision, packed_phantoms, vqvae_stage, warmed
from vqvae_dist.training.checkpoint import Checkpoints
from vqvae_dist.training.state import state_parts
from vqvae_dist.training.vqvae import VQVAEStage

STEPS = 30


def rows(options: Options) -> list[Row]:
    """Shares of training time: each part's time over that of the steps between two of them."""
    data = options.data or packed_phantoms(options.work, subjects=60, slices=12, size=288)
    settings = {"precision.mixed": fast_precision(options.device), "precision.compile": "on"}
    stage = vqvae_stage(data, options.work / "upkeep", settings)
    schedule, first = stage.config.schedule, stage.config.model.quantizer.init_after
    batch = warmed(stage)
    step = median_seconds(lambda: stage.train_step(first + 5, batch), repeat=STEPS, device=options.device)
    validating = median_seconds(stage.validate, repeat=2, device=options.device)
    checkpoints = Checkpoints(stage.session.run, keep_last=2, of=stage.session.name)
    owner = stage.session.owner
    assert owner is not None
    numbers = iter(range(1, 100))
    values: dict[str, Any] = {"progress": {}, "scaler": {}}
    saving = median_seconds(
        lambda: checkpoints.save(next(numbers), state_parts(stage), values, best=None, owner=owner), repeat=5
    )
    waited = reading_share(stage, first, step)
    about = f"{'the given slices' if options.data else '288x288 phantoms'}, batch {schedule.batch_size}"
    return [
        Row(f"validation every {schedule.validate_every} steps, {about}", validating / (schedule.validate_every * step),
            "", "training steps", step, None, "<= 0.05"),
        Row(f"checkpoint every {schedule.checkpoint_every} steps, {about}", saving / (schedule.checkpoint_every * step),
            "", "training steps", step, None, "<= 0.01"),
        Row(f"waiting for data, {about}", waited, "", "training steps", step, None, "<= 0.02"),
    ]  # fmt: skip


def reading_share(stage: VQVAEStage, first: int, step: float) -> float:
    """Seconds from asking for a batch to having it, over a step's, while steps are taken."""
    waits = []
    batches = stage.batches(range(first + 10, first + 10 + STEPS))
    for number in range(STEPS):
        began = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - began)
        stage.train_step(first + 10 + number, batch)
    return sorted(waits[2:])[len(waits[2:]) // 2] / step
