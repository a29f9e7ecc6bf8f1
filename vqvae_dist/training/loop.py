"""The training loop that both stages share: step, validate, picture, checkpoint, stop; and go on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from data_tools.console import CommandError, counted, progress_bar, say, warn
from vqvae_dist.config import TrainConfig
from vqvae_dist.pictures import save_picture
from vqvae_dist.training.checkpoint import Checkpoints
from vqvae_dist.training.memory import OutOfMemoryError
from vqvae_dist.training.progress import KEPT_WINDOWS, Progress, SpeedWindow, best_text, progress_line, write_summary
from vqvae_dist.training.session import Session
from vqvae_dist.training.stage import Stage, StepReport
from vqvae_dist.training.state import export_best, scaler_state, state_parts, weights_agree
from vqvae_dist.training.tracking import Tracker

MAX_SKIPPED = 10
"""Float16 steps in a row that may be skipped for non-finite gradients."""

SAY_EVERY_S = 10.0
"""Seconds between progress lines."""


DIFFERENT_WEIGHTS = "processes hold different weights (unlike machines?); those of the main process are kept"

OUT_OF_MEMORY = "out of memory"
"""How a loop ends where a process ran out of memory: all of them go back to the newest checkpoint."""


class Loop:
    """One attempt at a run."""

    def __init__(
        self,
        config: TrainConfig,
        session: Session,
        stage: Stage,
        checkpoints: Checkpoints,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self.config, self.session, self.stage = config, session, stage
        self.checkpoints, self.tracker, self.progress = checkpoints, tracker, progress
        self.direction, self.metric = (config.checkpoint.best_metric or stage.best_metric).split()
        self.window = SpeedWindow(config.schedule.batch_size)
        self.started = time.monotonic() - progress.seconds
        self.said = 0.0

    def run(self) -> str:
        """Train to the end; return ``completed``, ``stopped`` or OUT_OF_MEMORY, the same on every process."""
        try:
            with self.progress_bar() as moved_to:
                return self.train(moved_to)
        except OutOfMemoryError:
            return OUT_OF_MEMORY

    def progress_bar(self) -> AbstractContextManager[Callable[[int], None]]:
        """A bar from where the run goes on to its end, drawn by one process."""
        if not self.session.owner:
            return nullcontext(lambda done: None)
        return progress_bar(total=self.config.schedule.steps, label="training", done=self.progress.step)

    def train(self, moved_to: Callable[[int], None]) -> str:
        """Step after step, each told to ``moved_to``; return ``completed`` or ``stopped``."""
        schedule, progress = self.config.schedule, self.progress
        self.write_summary("running")
        batches = self.stage.batches(range(progress.step, schedule.steps))
        while progress.step < schedule.steps:
            began = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - began
            report = self.stage.train_step(progress.step, batch)
            self.window.add(time.monotonic() - began, waited, shape=tuple(batch[0].shape))
            self.count_skipped(report)
            progress.step += 1
            moved_to(progress.step)
            if report.warning:
                self.announce(report.warning)
            self.step_edge(report)
            if report.stop and progress.step < schedule.steps:
                self.write_summary("stopped")
                self.tell(f"stopped at step {progress.step}; the same command continues")
                return "stopped"
        self.write_summary("completed")
        said = f"completed {counted(schedule.steps, 'step')} in {progress.seconds:.0f} s{best_text(progress.best)}"
        self.tell(f"{said}: {self.session.run.path}")
        return "completed"

    def step_edge(self, report: StepReport) -> None:
        """Whatever is due after a step."""
        schedule, step = self.config.schedule, self.progress.step
        last = step == schedule.steps

        def due(every: int) -> bool:
            return last or step % every == 0

        validating, drawing, saving = map(
            due, (schedule.validate_every, schedule.image_every, schedule.checkpoint_every)
        )
        if validating or drawing or saving or report.stop:
            self.session.runtime.agree()  # that nobody ran out of memory while it stepped
        values: dict[str, Any] = {}
        if due(schedule.log_every):
            values |= {f"train/{name}": value for name, value in report.values.items()} | self.speed()
        improved = False
        if validating:
            scores = self.stage.validate()
            values |= {f"validate/{name}": value for name, value in scores.items()}
            improved = self.judge(values, last)
        self.progress.seconds = time.monotonic() - self.started
        if self.session.owner:
            self.session.owner.check()  # a newer attempt writes its own rows and pictures
        if values:
            self.tracker.log(step, {"epoch": self.stage.order.epoch_at(step), **values})
            self.show(values)
        if drawing:
            self.draw()
        if improved or report.stop or saving:
            self.save(improved)

    def judge(self, values: dict[str, Any], last: bool) -> bool:
        """Note the newest scores; return whether they are the best so far."""
        step, best = self.progress.step, self.progress.best
        scores = {name: value for name, value in values.items() if name.startswith("validate/")}
        self.progress.final = {**scores, "train/loss": values.get("train/loss")} if scores else self.progress.final
        value = scores.get(self.metric)
        if value is None:
            if last and (best is None or best["value"] is None):
                self.tell("no validation slices: the last step counts as best", as_warning=True)
                self.progress.best = {"metric": self.metric, "value": None, "step": step}
                return True
            return False
        sign = 1.0 if self.direction == "max" else -1.0
        if best is None or best["value"] is None or sign * value > sign * best["value"]:
            self.progress.best = {"metric": self.metric, "value": value, "step": step}
            return True
        return False

    def save(self, improved: bool) -> None:
        """Write a checkpoint, and the exported model where it is the best so far; the others wait."""
        session, progress = self.session, self.progress
        if not weights_agree(self.stage, session.runtime) and DIFFERENT_WEIGHTS not in progress.warnings:
            self.announce(DIFFERENT_WEIGHTS)
        if session.owner:
            best = progress.best["step"] if progress.best else None
            values = {"progress": asdict(progress), "scaler": scaler_state(session)}
            self.checkpoints.save(progress.step, state_parts(self.stage), values, best=best, owner=session.owner)
            if improved:
                export_best(self.stage, session, progress.step)
            self.write_summary("running")
        session.runtime.barrier()

    def draw(self) -> None:
        """Write the picture of this step and hand it to the tracker."""
        if not self.session.owner:
            return
        picture, step = self.stage.picture(), self.progress.step
        if picture is not None:
            save_picture(self.session.run.image_file(step), picture, {"step": str(step), "run": self.session.name})
            self.progress.pictures = [*self.progress.pictures, step]
            self.tracker.picture(step, "images/validate", picture)
        for name, counts in self.stage.histograms().items():
            self.tracker.histogram(step, name, counts)

    def announce(self, warning: str) -> None:
        """Say what went wrong, and keep it in summary.json and W&B's summary."""
        self.tell(warning, as_warning=True)
        self.progress.warnings = [*self.progress.warnings, warning]
        self.write_summary("running")

    def speed(self) -> dict[str, float]:
        """Close the log window: its speed and the share of time spent waiting for data."""
        rate, waiting = self.window.close()
        if rate is not None:
            self.progress.windows = [*self.progress.windows, rate][-KEPT_WINDOWS:]
            return {"train/slices_per_second": rate, "train/data_wait": waiting}
        return {"train/data_wait": waiting}

    def count_skipped(self, report: StepReport) -> None:
        """Stop a run whose float16 gradients stay non-finite."""
        self.progress.skipped = 0 if report.stepped else self.progress.skipped + 1
        if self.progress.skipped >= MAX_SKIPPED:
            raise CommandError(
                f"step {self.progress.step}: float16 gradients were not finite in {MAX_SKIPPED} steps in a row; "
                "use --precision.mixed bf16 or no, or a smaller optim.lr"
            )

    def write_summary(self, state: str) -> None:
        """Write summary.json."""
        if self.session.owner:
            self.tracker.summarise(write_summary(self.config, self.session, self.progress, state))

    def show(self, values: dict[str, Any]) -> None:
        """A progress line every ten seconds or so, at each validation and at the last step."""
        now, step, steps = time.monotonic(), self.progress.step, self.config.schedule.steps
        scored = any(name.startswith("validate/") for name in values)
        if now - self.said < SAY_EVERY_S and step < steps and not scored:
            return
        self.said = now
        self.tell(progress_line(self.progress, self.config.schedule, values))

    def tell(self, text: str, *, as_warning: bool = False) -> None:
        """Say something once, not on every process."""
        if self.session.owner:
            (warn if as_warning else say)(text)
