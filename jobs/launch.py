"""Handing units to submitit: one path for this machine and for Slurm."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import submitit

from data_tools.console import CommandError, first_line
from jobs.enter import check_own
from jobs.executors import OwnLocalExecutor, array_executors, code_environment, comment_of, stage_executor
from jobs.folder import Plan, SweepFolder
from jobs.ledger import Event, Ledger, open_submissions
from jobs.machine import Share
from jobs.pipeline import PipelineStage
from jobs.processes import ProcessName
from jobs.slurm_query import clean_environment
from jobs.task import run_unit

FOREVER_MIN = 60 * 24 * 365
"""Time limit of local jobs, which submitit insists on; minutes."""


def submit_local(folder: SweepFolder, plan: Plan, unit: str, share: Share, *, code: Path) -> submitit.Job[None]:
    """Start a unit as processes of this machine; it outlives us, and a Ctrl-C meant for us doesn't reach it."""
    check_own(folder.logs)
    executor = OwnLocalExecutor(folder.logs)
    executor.update_parameters(
        timeout_min=FOREVER_MIN,
        tasks_per_node=share.processes,
        gpus_per_node=len(share.gpus),
        visible_gpus=share.gpus,
        stderr_to_stdout=True,
    )
    variables = {"OMP_NUM_THREADS": str(share.threads), **plan.profile.env, **code_environment(code)}
    with _environment(clean_environment(os.environ) | variables), _ignored(signal.SIGINT, signal.SIGHUP):
        job = executor.submit(run_unit, str(folder.path), unit)
    process = ProcessName.of(int(job.job_id)).as_json()
    Ledger(folder.events_file).append(
        "submitted", unit=unit, job_id=job.job_id, executor="local", process=process, gpus=list(share.gpus)
    )
    return job


def submit_arrays(folder: SweepFolder, plan: Plan, units: Sequence[str], *, code: Path) -> list[str]:
    """Submit members to Slurm; return the arrays' ids."""
    ids: list[str] = []
    for part, executor in array_executors(folder, plan, len(units), code=code):
        if part.in_turn and ids:
            executor.update_parameters(dependency=f"afterany:{ids[-1]}")
        ids.append(_submit(folder, plan, executor, units[part.start : part.stop]))
    return ids


def submit_stage(folder: SweepFolder, plan: Plan, stage: PipelineStage, *, after: str, code: Path) -> str:
    """Submit a stage of the pipeline to Slurm, behind the dependency ``after``; return its id."""
    executor = stage_executor(folder, plan, stage, after=after, code=code)
    return _submit(folder, plan, executor, [stage.name])


def _submit(folder: SweepFolder, plan: Plan, executor: submitit.SlurmExecutor, units: Sequence[str]) -> str:
    """Submit units and write their ids down, so that a kill in between leaves a trace; return the array's id."""
    check_own(folder.logs)
    ledger, nonce = Ledger(folder.events_file), uuid.uuid4().hex[:12]
    executor.update_parameters(comment=comment_of(plan, nonce))
    ledger.append("submitting", nonce=nonce, units=len(units))
    slurm = plan.slurm
    try:
        with _environment(slurm.environment()):
            jobs = executor.map_array(run_unit, [str(folder.path)] * len(units), list(units))
    except Exception as error:  # submitit raises its own; what matters is sbatch's word
        cancel_orphans(folder, plan)
        raise CommandError(f"sbatch refused: {first_line(error)}") from error
    events: list[Event] = [
        {"event": "submitted", "unit": unit, "job_id": job.job_id, "executor": "slurm", "nonce": nonce}
        for unit, job in zip(units, jobs, strict=True)
    ]
    ledger.append_all(events)
    return str(jobs[0].job_id).partition("_")[0]


def cancel_orphans(folder: SweepFolder, plan: Plan) -> int:
    """Cancel jobs of a submission that was killed before it wrote their ids down; return how many arrays."""
    ledger, slurm, count = Ledger(folder.events_file), plan.slurm, 0
    for nonce in open_submissions(ledger.read()):
        orphans = slurm.ids_by_comment(comment_of(plan, nonce))
        slurm.cancel(orphans)
        ledger.append("abandoned", nonce=nonce)
        count += len(orphans)
    return count


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment that submitit's commands and processes get."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _ignored(*signals: signal.Signals) -> Iterator[None]:
    """Ignore signals; processes started meanwhile ignore them for good."""
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
