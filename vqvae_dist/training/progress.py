"""Where a run is, how fast it goes, and the summary.json that tells both."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_tools.console import CommandError, describe, warn
from vqvae_dist.config import ScheduleConfig, TrainConfig
from vqvae_dist.files import write_sealed
from vqvae_dist.run_folder import metrics_note
from vqvae_dist.training.metrics_file import rows_until
from vqvae_dist.training.session import Session

KEPT_WINDOWS = 200
"""Log windows that the median speed is taken over."""


@dataclass
class Progress:
    """Where a run is; goes into each checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] | None = None
    final: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    pictures: list[int] = field(default_factory=list)
    """Steps of which a picture was written."""
    windows: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metrics_damaged: bool = False
    """Rows up to this step were found to be others than were written; a checksum of them as they are would hide it."""

    @property
    def slices_per_second(self) -> float | None:
        """Median over log windows."""
        return round(statistics.median(self.windows), 3) if self.windows else None


class SpeedWindow:
    """Slices a second over the steps since the last log; a shape's first steps compile and do not count."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.seen: dict[Any, int] = {}
        self.steps, self.seconds, self.waited, self.total = 0, 0.0, 0.0, 0.0

    def add(self, seconds: float, waited: float, *, shape: Any) -> None:
        """Count one step."""
        self.seen[shape] = self.seen.get(shape, 0) + 1
        self.waited, self.total = self.waited + waited, self.total + seconds
        if self.seen[shape] > 2:
            self.steps, self.seconds = self.steps + 1, self.seconds + seconds

    def close(self) -> tuple[float | None, float]:
        """Slices a second (None where no step counted) and the share of waiting; then start anew."""
        rate = self.steps * self.batch_size / self.seconds if self.steps else None
        share = self.waited / self.total if self.total else 0.0
        self.steps, self.seconds, self.waited, self.total = 0, 0.0, 0.0, 0.0
        return rate, share


SHOWN = ("train/loss", "validate/ssim", "validate/ssim_foreground", "validate/bits_per_code")
"""What a progress line says of the values that are logged."""


def progress_line(progress: Progress, schedule: ScheduleConfig, values: Mapping[str, float | None]) -> str:
    """Where a run is, its newest values, its speed and the time that is left."""
    shown = {name.split("/")[-1]: value for name, value in values.items() if name in SHOWN and value is not None}
    parts = [f"{name} {value:.4g}" for name, value in shown.items()]
    rate, steps = progress.slices_per_second, schedule.steps - progress.step
    if rate:
        left = steps * schedule.batch_size / rate
        parts += [f"{rate:.1f} slices/s", f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left"]
    return f"step {progress.step}/{schedule.steps}  {'  '.join(parts)}"


def best_text(best: Mapping[str, Any] | None) -> str:
    """``, best ssim_foreground 0.9134 at step 800``; nothing where nothing was measured."""
    if best is None or best["value"] is None:
        return ""
    return f", best {best['metric'].split('/')[-1]} {best['value']:.4g} at step {best['step']}"


def write_summary(config: TrainConfig, session: Session, progress: Progress, state: str, **more: Any) -> dict[str, Any]:
    """Write summary.json; return its content. Rows of metrics.jsonl after the progress's step do not count.

    OwnershipLostError where a newer attempt has taken the run.
    """
    assert session.owner is not None
    precision = session.runtime.precision
    rows = rows_until(session.run.metrics_file, progress.step)
    content = {
        "run_id": session.identity["run_id"],
        "state": state,
        "step": progress.step,
        "steps": config.schedule.steps,
        "seconds": round(progress.seconds, 3),
        "slices_per_second": progress.slices_per_second,
        "best": progress.best,
        "final": progress.final,
        "pictures": progress.pictures,
        "warnings": progress.warnings,
        "memory_gb": round(session.runtime.peak_memory() / 1e9, 3),
        "precision": precision.mixed,
        "compile": precision.compile,
        "metrics": metrics_note(rows, damaged=progress.metrics_damaged),
        **more,
    }
    session.owner.check()
    write_sealed(session.run.summary_file, content)
    return content


def note_end(session: Session, config: TrainConfig, progress: Progress | None, state: str, reason: str) -> None:
    """Record in summary.json why the run did not complete, unless a newer attempt owns the folder.

    Without ``progress`` it could not be opened: what summary.json said of it stays.
    """
    try:
        assert session.owner is not None
        earlier = None if progress else earlier_summary(session)
        if earlier:
            session.owner.check()
            write_sealed(session.run.summary_file, {**earlier, "state": state, "reason": reason})
        else:
            write_summary(config, session, progress or Progress(), state, reason=reason)
    except (CommandError, OSError) as error:
        warn(f"the end of this run is not noted: {describe(error)}")


def earlier_summary(session: Session) -> dict[str, Any] | None:
    """What an earlier attempt at this run left as summary.json; None where it is not there or is no help."""
    try:
        summary = session.run.read_summary() or {}
    except CommandError:
        return None
    return summary if summary.get("run_id") == session.identity["run_id"] else None
