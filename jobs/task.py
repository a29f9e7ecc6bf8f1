"""What a job runs: ``run_unit``, in every process of it. The trainings are imported only here, inside the job."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
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
from vqvae_dist.config_io import read_toml
from vqvae_dist.run_folder import Attempt, OwnershipLostError, RunFolder

Run = Callable[[list[str], Attempt], str]
"""Runs a ``vqvae_dist`` command; returns ``completed`` or ``stopped``."""

CRASH_SETTLES_S = 2.0
"""Wait after a crash before it is judged: another process may be writing down the cause."""


class EndQuietlyError(Exception):
    """Another process of the job has said why it ends."""


def run_unit(folder: str, unit: str) -> None:
    """Run a member or a stage of a sweep in this process of its job; the entry that submitit calls."""
    place = Place.current(os.environ)
    signals = StopSignals()
    sweep = SweepFolder(Path(folder))
    plan = sweep.read_plan()
    trains = plan.member(unit) is not None or unit == TRAIN_PRIOR
    signals.install(
        deadline_s=plan.profile.signal_lead_s,
        interrupt=not trains,
        on_deadline=partial(_after_deadline, sweep, plan, unit, place),
    )
    os.environ.update(distributed_environment(os.environ))
    threads = prepare_process(plan.profile)
    if place.is_main and plan.member(unit):
        warn_of_crowding(read_toml(sweep.member_settings(unit)), threads)
    remove_stale_pickles(sweep, place)
    run = partial(run_training, signals=signals)
    status = perform(sweep, plan, unit, place=place, signals=signals, run=run)
    if status:
        sys.exit(status)


def run_training(arguments: list[str], attempt: Attempt, *, signals: StopSignals) -> str:
    """Run a ``vqvae_dist`` command in this process."""
    from vqvae_dist.cli import run_command_line
    from vqvae_dist.training.session import OtherRankError
    from vqvae_dist.training.stop import request_stop

    signals.tell(request_stop)
    try:
        return run_command_line(arguments, attempt=attempt)
    except OtherRankError as error:
        raise EndQuietlyError(str(error)) from None


def perform(folder: SweepFolder, plan: Plan, unit: str, *, place: Place, signals: StopSignals, run: Run) -> int:
    """Run a unit and write down how it began and ended; the exit status of this process."""
    ledger = Ledger(folder.events_file)
    history = ledger.histories().get(unit, History())
    if history.outcome == "cancelled":
        say(f"{unit}: cancelled ({history.reason})")
        return 0
    step = checkpoint_step(run_folder_of(folder, plan, unit))
    earlier = history.starts_at(step, but=(place.job_id, place.restart))
    if place.is_main:
        ledger.append("started", unit=unit, job_id=place.job_id, restart=place.restart, step=step)

    def end(state: str, reason: str = "") -> None:
        ledger.append("ended", unit=unit, job_id=place.job_id, state=state, reason=reason)

    if earlier >= plan.profile.max_attempts_without_progress:
        if place.is_main:
            end("failed", f"{earlier} starts in a row gained no training step; the last: {history.reason or 'killed'}")
        return 1
    number = len([start for start in history.starts if (start.job_id, start.restart) != (place.job_id, place.restart)])
    try:
        state = _work(folder, plan, unit, run=run, attempt=Attempt(place.job_id, number))
    except StopRequestedError:
        state = "stopped"
    except (OwnershipLostError, EndQuietlyError) as error:
        say(str(error))
        return 0 if isinstance(error, OwnershipLostError) else 1
    except CommandError as error:
        if place.is_main or not isinstance(error, UsageError):  # every process was asked the same
            end("failed", str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.status
    except Exception as error:
        traceback.print_exc()
        return _after_crash(ledger, unit, describe(error), end=end, place=place, plan=plan)
    if place.is_main:
        if state == "stopped":
            _after_stop(ledger, unit, end=end, place=place, plan=plan, signals=signals)
        else:
            end(state)
    return 0


def _work(folder: SweepFolder, plan: Plan, unit: str, *, run: Run, attempt: Attempt) -> str:
    if plan.member(unit):
        settings, output = folder.member_settings(unit), folder.run(unit).path
        return run([plan.stage, "--config", str(settings), "--output-dir", str(output)], attempt)
    stage = next(stage for stage in plan.pipeline if stage.name == unit)
    return run_stage(folder, plan, stage, run=lambda arguments: run(arguments, attempt))


def _after_stop(
    ledger: Ledger, unit: str, *, end: Callable[[str, str], None], place: Place, plan: Plan, signals: StopSignals
) -> None:
    """Ask Slurm to run this element again, unless it is being ended for good."""
    end("stopped", "stopped on request; it goes on from its checkpoint")
    if place.executor != "slurm" or ledger.histories()[unit].outcome == "cancelled":
        return
    slurm = plan.slurm
    if not signals.warned and slurm.states([place.job_id]).jobs.get(place.job_id, ("",))[0] != "RUNNING":
        return  # SIGTERM of a cancelled job, or of one that Slurm itself has put back into the queue
    refused = slurm.requeue(place.job_id)
    if refused:
        end("stopped", f"requeue refused: {refused}")
        warn(f"requeue refused: {refused}; `jobs retry` takes it up")


def _after_deadline(folder: SweepFolder, plan: Plan, unit: str, place: Place) -> None:
    """Have a process that doesn't manage to stop run again from its newest checkpoint."""
    if not place.is_main:
        return
    ledger = Ledger(folder.events_file)
    reason = f"did not stop within {plan.profile.signal_lead_s} s"
    if ledger.histories()[unit].outcome == "":
        ledger.append("ended", unit=unit, job_id=place.job_id, state="crashed", reason=reason)
        if place.executor == "slurm":
            plan.slurm.requeue(place.job_id)


def _after_crash(
    ledger: Ledger, unit: str, reason: str, *, end: Callable[[str, str], None], place: Place, plan: Plan
) -> int:
    """Try again after what may have been the machine's fault; a limit of such starts is kept when they begin."""
    time.sleep(CRASH_SETTLES_S)
    if ledger.histories()[unit].outcome not in ("failed", "cancelled"):
        end("crashed", reason)
        if place.executor == "slurm":
            plan.slurm.requeue(place.job_id)
    return 1


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
