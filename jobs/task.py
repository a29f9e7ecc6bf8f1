"""What a job runs: ``run_unit``, in every process of it. The trainings are imported only here, inside the job."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_tools.console import CommandError, UsageError, describe, say, warn
from jobs.config import Profile, Settings
from jobs.folder import Plan, SweepFolder
from jobs.ledger import History, Ledger
from jobs.pipeline import TRAIN_PRIOR
from jobs.place import Place, distributed_environment, threads_of
from jobs.signals import StopRequestedError, StopSignals
from jobs.stages import run_stage
from vqvae_dist.run_folder import Attempt, OwnershipLostError, RunFolder
from vqvae_dist.toml_files import read_toml

Run = Callable[[list[str], Attempt], str]
"""Runs a ``vqvae_dist`` command; returns ``completed`` or ``stopped``."""

STOPPED, STOPPED_STAGE = "stopped on request; it goes on from its checkpoint", "stopped on request; it begins anew"
CRASH_SETTLES_S = 2.0
"""Wait after a crash before it is judged: another process may be writing down the cause."""


class EndQuietlyError(Exception):
    """Another process of the job has said why it ends."""


def run_unit(folder: str, unit: str) -> None:
    """Run a member or a stage of a sweep in this process of its job; the entry that submitit calls."""
    sweep = SweepFolder(Path(folder))
    task = Task(sweep, sweep.read_plan(), unit, Place.current(os.environ))
    profile = task.plan.profile
    signals = StopSignals()
    signals.install(deadline_s=profile.signal_lead_s, interrupt=not task.trains, on_deadline=task.after_deadline)
    os.environ.update(distributed_environment(os.environ))
    threads = prepare_process(profile)
    if task.place.is_main and task.is_member:
        warn_of_crowding(read_toml(sweep.member_settings(unit)), threads)
    remove_stale_pickles(sweep, task.place)
    status = task.perform(partial(run_training, signals=signals, after_hang=task.after_hang), signals)
    signals.interrupt_nothing()
    if status:
        sys.exit(status)


def run_training(
    arguments: list[str], attempt: Attempt, *, signals: StopSignals, after_hang: Callable[[str], None] | None = None
) -> str:
    """Run a ``vqvae_dist`` command in this process."""
    from vqvae_dist.cli import run_command_line
    from vqvae_dist.run_folder import OtherRankError
    from vqvae_dist.training.stop import request_stop

    if after_hang:
        from vqvae_dist.training.heartbeat import on_hang

        on_hang(after_hang)
    signals.tell(request_stop)
    try:
        return run_command_line(arguments, attempt=attempt)
    except OtherRankError as error:
        raise EndQuietlyError(str(error)) from None


@dataclass(frozen=True)
class Task:
    """A unit in one process of its job: runs it, and writes down how it began and ended."""

    folder: SweepFolder
    plan: Plan
    unit: str
    place: Place

    @property
    def is_member(self) -> bool:
        """Whether the unit is a member, and not a stage of the pipeline."""
        return self.plan.member(self.unit) is not None

    @property
    def trains(self) -> bool:
        """Whether it saves checkpoints, and so returns by itself when it is asked to stop."""
        return self.is_member or self.unit == TRAIN_PRIOR

    @property
    def ledger(self) -> Ledger:
        """The sweep's events."""
        return Ledger(self.folder.events_file)

    def history(self) -> History:
        """What happened to the unit so far."""
        return self.ledger.histories().get(self.unit, History())

    def end(self, state: str, reason: str = "") -> None:
        """Write down how the unit ended."""
        self.ledger.append("ended", unit=self.unit, job_id=self.place.job_id, state=state, reason=reason)

    def perform(self, run: Run, signals: StopSignals) -> int:
        """Run the unit unless it was cancelled or has been tried too often; return this process's exit status."""
        history = self.history()
        if history.outcome == "cancelled":
            say(f"{self.unit}: cancelled ({history.reason})")
            return 0
        step = checkpoint_step(run_folder_of(self.folder, self.plan, self.unit))
        place, me = self.place, (self.place.job_id, self.place.restart)
        if place.is_main:
            self.ledger.append("started", unit=self.unit, job_id=place.job_id, restart=place.restart, step=step)
        # The main process may have noted this start before the others look: it counts for none of them.
        vain = history.starts_at(step, but=me)
        if vain >= self.plan.profile.max_attempts_without_progress:
            if place.is_main:
                last = history.reason or "killed"
                self.end("failed", f"{vain} starts in a row gained no training step; the last: {last}")
            return 1
        number = sum((start.job_id, start.restart) != me for start in history.starts)
        return self._try(run, signals, Attempt(place.job_id, number))

    def _try(self, run: Run, signals: StopSignals, attempt: Attempt) -> int:
        try:
            state = self._work(run, attempt)
        except StopRequestedError:
            state = "stopped"
        except OwnershipLostError as error:
            say(str(error))
            return 0
        except EndQuietlyError as error:
            say(str(error))
            return 1
        except CommandError as error:
            if self.place.is_main or not isinstance(error, UsageError):  # every process was asked the same
                self.end("failed", str(error))
            print(f"error: {error}", file=sys.stderr, flush=True)
            return error.status
        except Exception as error:
            traceback.print_exc()
            self._after_crash(describe(error))
            return 1
        if self.place.is_main:
            reason = STOPPED if self.trains else STOPPED_STAGE
            self.end(state, reason if state == "stopped" else "")
            if state == "stopped":
                self._after_stop(signals)
        return 0

    def _work(self, run: Run, attempt: Attempt) -> str:
        if self.is_member:
            settings, output = self.folder.member_settings(self.unit), self.folder.run(self.unit).path
            return run([self.plan.stage, "--config", str(settings), "--output-dir", str(output)], attempt)
        stage = next(stage for stage in self.plan.pipeline if stage.name == self.unit)
        return run_stage(self.folder, self.plan, stage, run=lambda arguments: run(arguments, attempt))

    def _after_stop(self, signals: StopSignals) -> None:
        """Have Slurm run this element again, unless it is being ended for good."""
        if self.place.executor != "slurm" or self.history().outcome == "cancelled":
            return  # here, the next `submit` goes on
        if not signals.warned and not self._still_counts_as_running():
            return
        refused = self._requeue()
        if refused:
            self.end("stopped", f"requeue refused: {refused}")
            warn(f"requeue refused: {refused}; `python -m jobs retry` takes it up")

    def _still_counts_as_running(self) -> bool:
        """False after the SIGTERM of a job that is cancelled, or that Slurm itself has put back into the queue."""
        job = self.plan.slurm.states([self.place.job_id]).jobs.get(self.place.job_id)
        return job is not None and job.state == "RUNNING"

    def _requeue(self) -> str:
        """Ask Slurm to run this element again; return why not, if it doesn't. Here, the feeder starts it again."""
        return self.plan.slurm.requeue(self.place.job_id) if self.place.executor == "slurm" else ""

    def _after_crash(self, reason: str) -> None:
        """Try again after what may have been the machine's fault; a limit of such starts is kept when they begin."""
        time.sleep(CRASH_SETTLES_S)
        if self.history().outcome == "":  # else another process has said how this attempt ended
            self.end("crashed", reason)
            self._requeue()

    def after_hang(self, reason: str) -> None:
        """Have a run of which a process hangs run again from its newest checkpoint; any process may notice."""
        if self.history().outcome == "":
            self.end("crashed", reason)
            self._requeue()

    def after_deadline(self) -> None:
        """Have a process that doesn't manage to stop run again from its newest checkpoint."""
        if self.place.is_main and self.history().outcome == "":
            self.end("crashed", f"did not stop within {self.plan.profile.signal_lead_s} s")
            self._requeue()


def run_folder_of(folder: SweepFolder, plan: Plan, unit: str) -> RunFolder | None:
    """The run folder that a unit trains in; None for a stage that trains nothing."""
    if plan.member(unit):
        return folder.run(unit)
    chosen = folder.read_choice()
    return RunFolder(folder.pipeline(chosen).prior) if unit == TRAIN_PRIOR and chosen else None


def checkpoint_step(run: RunFolder | None) -> int:
    """The step of the newest checkpoint, 0 without one."""
    latest = run.checkpoints / "latest" if run else None
    if latest is None or not latest.is_file():
        return 0
    digits = latest.read_text().strip().removeprefix("step_")
    return int(digits) if digits.isdigit() else 0


def prepare_process(profile: Profile) -> int:
    """Set threads and node-local folders, before torch is imported; return how many CPUs this process has."""
    threads = threads_of(os.environ, available=len(os.sched_getaffinity(0)))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if profile.cache_dir:
        cache = Path(os.path.expandvars(profile.cache_dir)) / f"vqvae-jobs-{os.getuid()}"
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(cache)
        for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            os.environ.setdefault(variable, str(cache / variable.removesuffix("_CACHE_DIR").lower()))
    return threads


def warn_of_crowding(settings: Settings, threads: int) -> None:
    """Say when the processes that read slices have no CPUs of their own."""
    workers = settings["data.workers"]
    if workers >= threads and workers:
        warn(f"data.workers {workers} and the training share {threads} CPUs; cpus_per_task {workers + 1} would fit")


def remove_stale_pickles(folder: SweepFolder, place: Place) -> None:
    """Remove what an earlier kill of this job left half-written, which submitit would stumble over."""
    for stale in folder.logs.glob(f"{place.job_id}_*.pkl.save_tmp"):
        stale.unlink(missing_ok=True)
