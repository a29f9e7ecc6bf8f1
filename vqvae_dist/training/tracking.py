"""Metrics on their way out: ``metrics.jsonl`` and W&B behind one door. No torch.

The training tells the tracker what happened at which step; where it goes, and what goes wrong there, is the
tracker's business.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqvae_dist.config import TrainConfig
from vqvae_dist.config_io import flatten, to_json
from vqvae_dist.run_folder import Attempt, RunFolder
from vqvae_dist.training.metrics_file import MetricsFile, Number, cut_after, json_number
from vqvae_dist.training.wandb_run import RunAbout, WandbRun, choose_mode


class Tracker:
    """metrics.jsonl and W&B behind one door; on ranks other than the main one every method does nothing.

    Args:
        run: The run folder.
        config: Settings of the training.
        identity: What else W&B shows about the run: ``run_id``, ``fingerprint``, ``data_digest``, ``generation``,
            ``stage``, and facts such as ``precision``, ``git_commit``, ``processes``.
        resume_step: The step training goes on from; later rows of an earlier attempt are cut.
        attempt: Who trains.
        active: Whether this is the main process.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainConfig,
        *,
        identity: Mapping[str, Any],
        resume_step: int,
        attempt: Attempt,
        active: bool,
    ) -> None:
        self._attempt = attempt.number
        self._metrics: MetricsFile | None = None
        self._wandb: WandbRun | None = None
        if active:
            cut_after(run.metrics_file, resume_step)
            self._metrics = MetricsFile(run.metrics_file)
            about = describe(run, config, identity, resume_step=resume_step, attempt=attempt)
            mode = choose_mode(config.tracking.mode)
            self._wandb = WandbRun(run, about, mode=mode) if mode else None

    def log(self, step: int, values: Mapping[str, Number]) -> None:
        """Write one row: ``values`` with the step, the time (unix seconds) and the attempt. NaN becomes null."""
        if self._metrics is None:
            return
        row = {"global_step": step, "time": round(time.time(), 3), "attempt": self._attempt, **values}
        row = {key: json_number(value) for key, value in row.items()}
        self._metrics.append(row)
        if self._wandb:
            self._wandb.row(step, row)

    def picture(self, step: int, name: str, image: npt.NDArray[np.uint8]) -> None:
        """Show a picture, (H, W) or (H, W, 3), in W&B; TypeError unless it is uint8."""
        if image.dtype != np.uint8:  # the client casts floats in [0, 1] to black without a word
            raise TypeError(f"{name}: a picture is uint8, got {image.dtype}")
        if self._wandb:
            pixels = image.copy()
            self._wandb.row(step, {name: lambda wandb: wandb.Image(pixels)})

    def animation(self, step: int, name: str, file: Path) -> None:
        """Show a GIF or MP4 file in W&B."""
        if self._wandb:
            self._wandb.row(step, {name: lambda wandb: wandb.Video(str(file), format=file.suffix[1:])})

    def histogram(self, step: int, name: str, counts: npt.NDArray[Any]) -> None:
        """Show how often each bin occurred, (bins,) counts, in W&B."""
        if self._wandb:
            bins = np_histogram(counts)
            self._wandb.row(step, {name: lambda wandb: wandb.Histogram(np_histogram=bins)})

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Put values in W&B's summary of the run, under ``run/``."""
        if self._wandb:
            self._wandb.summarise(flatten(values, "run/"))

    def finish(self, state: str) -> None:
        """End as ``completed``, ``stopped`` or ``failed``; call after the process group is gone. Takes bounded time."""
        if self._metrics is not None:
            self._metrics.close()
        if self._wandb:
            self._wandb.finish(state)


def describe(
    run: RunFolder, config: TrainConfig, identity: Mapping[str, Any], *, resume_step: int, attempt: Attempt
) -> RunAbout:
    """What W&B is told about the run; the same for each attempt, but for what is under ``attempt.``."""
    tracking, generation = config.tracking, int(identity["generation"])
    return RunAbout(
        id=wandb_id(identity["run_id"], generation, tracking.group, run.path.absolute().name),
        name=f"{identity['run_id']}{f' (generation {generation})' if generation else ''}",
        project=tracking.project,
        entity=tracking.entity,
        group=tracking.group,
        job_type=identity["stage"],
        tags=tracking.tags,
        config=dashboard_config(config, identity, resume_step=resume_step, attempt=attempt),
        resume_step=resume_step,
    )


def wandb_id(run_id: str, generation: int, group: str, folder: str) -> str:
    """The W&B id of a run: the same for each attempt, another for another folder, sweep or generation.

    It begins with the digits of the fingerprint that ``run_id`` ends in. The run's own name is part of it because
    the same settings may be trained twice on purpose (``rerun``), and one W&B run can't hold both.
    """
    digest = hashlib.sha256(json.dumps([run_id, generation, group, folder]).encode()).hexdigest()
    return f"{run_id.rsplit('_', 1)[-1][:8]}-{digest[:8]}"


def dashboard_config(
    config: TrainConfig, identity: Mapping[str, Any], *, resume_step: int, attempt: Attempt
) -> dict[str, Any]:
    """Settings and facts as flat dotted keys; each list also as text (``_str``), which W&B's plots can order."""
    attempts = identity.get("attempts") or [{}]
    facts = {key: value for key, value in identity.items() if key not in ("settings", "attempts")}
    this_attempt = {
        **attempts[-1],
        "index": len(attempts) - 1,
        "job": attempt.job,
        "number": attempt.number,
        "resume_step": resume_step,
    }
    in_steps = {"optim.milestones": list(config.milestones), "optim.warmup": config.warmup}
    flat = flatten(to_json(config)) | in_steps | flatten(facts) | flatten(this_attempt, "attempt.")
    twins = {f"{key}_str": "-".join(map(str, value)) for key, value in flat.items() if isinstance(value, list)}
    return flat | twins


def np_histogram(counts: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Counts and bin edges as W&B takes them: at most MAX_BINS bins, neighbours added up."""
    width = -(-len(counts) // MAX_BINS)
    edges = np.arange(0, len(counts), width)
    return np.add.reduceat(counts, edges), np.append(edges, len(counts))


MAX_BINS = 512
"""The client refuses histograms with more."""
