"""Handing units to submitit: one path for this machine and for Slurm."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import submitit

from data_tools.console import CommandError
from jobs.config import Profile
from jobs.folder import Plan, SweepFolder
from jobs.ledger import Event, Ledger, open_submissions
from jobs.machine import Share
from jobs.pipeline import PipelineStage
from jobs.processes import ProcessName
from jobs.profile import with_resources
from jobs.slurm_query import clean_environment, first_line
from jobs.task import run_unit

DEFAULT_ARRAY_PARALLELISM = 64
FOREVER_MIN = 60 * 24 * 365
"""Time limit of local jobs, which submitit insists on; minutes."""


class Part(NamedTuple):
    """Some elements of an array that is too long for one."""

    start: int
    stop: int
    parallelism: int
    in_turn: bool
    """Whether it has to wait for the part before it."""


def split_array(count: int, *, size: int, parallelism: int) -> list[Part]:
    """Split ``count`` elements into arrays of at most ``size``, sharing the parallelism out.

    Where there are more parts than elements may run at once, the parts run in turn, each with the whole of it.
    """
    starts = range(0, count, size)
    each, rest = divmod(parallelism, max(1, len(starts)))
    shares = [each + (index < rest) for index in range(len(starts))] if each else [parallelism] * len(starts)
    return [Part(start, min(start + size, count), share, not each) for start, share in zip(starts, shares, strict=True)]


def submit_local(folder: SweepFolder, plan: Plan, unit: str, share: Share, *, code: Path) -> submitit.Job[None]:
    """Start a unit as processes of this machine; it outlives us, and a Ctrl-C meant for us doesn't reach it."""
    executor = submitit.LocalExecutor(folder.logs)
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


def array_executors(
    folder: SweepFolder, plan: Plan, count: int, *, code: Path
) -> Iterator[tuple[Part, submitit.SlurmExecutor]]:
    """What ``count`` members are submitted with: one array, or several where the cluster allows none so long."""
    limit = plan.profile.array_parallelism
    parallelism = DEFAULT_ARRAY_PARALLELISM if limit == "auto" else limit
    for part in split_array(count, size=plan.slurm.max_array_size(), parallelism=parallelism):
        executor = slurm_executor(
            folder,
            plan,
            profile=plan.profile,
            processes=plan.profile.processes_per_node,
            code=code,
            name=plan.name,
            dependency="",
        )
        executor.update_parameters(array_parallelism=part.parallelism)
        yield part, executor


def submit_arrays(folder: SweepFolder, plan: Plan, units: Sequence[str], *, code: Path) -> list[str]:
    """Submit members to Slurm; return the arrays' ids."""
    ids: list[str] = []
    for part, executor in array_executors(folder, plan, len(units), code=code):
        if part.in_turn and ids:
            executor.update_parameters(dependency=f"afterany:{ids[-1]}")
        ids.append(_submit(folder, plan, executor, units[part.start : part.stop]))
    return ids


def sbatch_text(executor: submitit.SlurmExecutor, count: int) -> str:
    """The sbatch file that submitit would write for ``count`` units."""
    if count > 1:
        executor.parameters["map_count"] = count  # as submitit itself marks an array
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))


def submit_stage(folder: SweepFolder, plan: Plan, stage: PipelineStage, *, after: str, code: Path) -> str:
    """Submit a stage of the pipeline to Slurm, behind the dependency ``after``; return its id."""
    executor = stage_executor(folder, plan, stage, after=after, code=code)
    return _submit(folder, plan, executor, [stage.name])


def dependency_of(stage: PipelineStage, before: Sequence[str], *, first: bool) -> str:
    """What a stage waits for: the first one until all members have ended, however they did; others for success.

    The report tells of a failure too.
    """
    if not before:
        return ""
    return ("afterany:" if first or stage.name == "report" else "afterok:") + ":".join(before)


def stage_executor(
    folder: SweepFolder, plan: Plan, stage: PipelineStage, *, after: str, code: Path
) -> submitit.SlurmExecutor:
    """What a stage is submitted with: the profile's resources for a training, one process for the others."""
    profile = with_resources(plan.profile, stage.resources, f"[pipeline.{stage.name}]")
    processes = profile.processes_per_node
    if not stage.is_training:
        alone = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": min(1, profile.gpus) if stage.needs_gpus else 0}
        profile, processes = with_resources(profile, alone, stage.name), 1
    return slurm_executor(
        folder,
        plan,
        profile=profile,
        processes=processes,
        code=code,
        name=f"{plan.name}-{stage.name}",
        dependency=after,
    )


def slurm_executor(
    folder: SweepFolder,
    plan: Plan,
    *,
    profile: Profile,
    processes: int,
    code: Path,
    name: str,
    dependency: str,
) -> submitit.SlurmExecutor:
    """An executor with everything of the profile in it."""
    if not shutil.which("srun"):
        raise CommandError("srun: not found; is Slurm on this machine? (--profile local runs here)")
    executor = submitit.SlurmExecutor(folder.logs)
    optional = {"partition": profile.partition, "account": profile.account, "qos": profile.qos}
    parameters: dict[str, Any] = {key: value for key, value in optional.items() if value}
    if profile.gpus and profile.gpu_binding == "node":
        parameters["gpus_per_node"] = profile.gpus
    elif profile.gpus:
        parameters["gpus_per_task"] = 1
    if profile.mem_gb:
        parameters["mem"] = f"{round(profile.mem_gb * processes * 1024)}M"
    if dependency:
        parameters["dependency"] = dependency
    executor.update_parameters(
        job_name=name,
        comment=comment_of(plan, "NONCE"),
        wckey=None,  # submitit's own would be refused where such keys are tracked
        nodes=profile.nodes,
        ntasks_per_node=processes,
        cpus_per_task=profile.cpus_per_task,
        time=profile.timeout_min,
        signal_delay_s=profile.signal_lead_s,
        stderr_to_stdout=True,
        setup=[*profile.setup, *_exports({**profile.env, **code_environment(code)})],
        srun_args=_srun_arguments(profile),
        additional_parameters={"requeue": True, "kill-on-invalid-dep": "yes", **profile.sbatch},
        **parameters,
    )
    return executor


def _srun_arguments(profile: Profile) -> list[str]:
    # srun takes the CPUs of a task no more from sbatch since Slurm 22.05. A rank that fails takes the others with it:
    # they would wait for it in their next collective.
    arguments = [f"--cpus-per-task={profile.cpus_per_task}", "--kill-on-bad-exit=1"]
    return [*arguments, "--gpus-per-task=1"] if profile.gpus and profile.gpu_binding == "task" else arguments


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _submit(folder: SweepFolder, plan: Plan, executor: submitit.SlurmExecutor, units: Sequence[str]) -> str:
    """Submit units and write their ids down, so that a kill in between leaves a trace; return the array's id."""
    ledger, nonce = Ledger(folder.events_file), uuid.uuid4().hex[:12]
    executor.update_parameters(comment=comment_of(plan, nonce))
    ledger.append("submitting", nonce=nonce, units=len(units))
    slurm = plan.slurm
    try:
        with _environment(slurm.environment()):
            jobs = executor.map_array(run_unit, [str(folder.path)] * len(units), list(units))
    except Exception as error:  # submitit raises its own; what matters is sbatch's word
        ledger.append("abandoned", nonce=nonce)
        raise CommandError(f"sbatch refused: {first_line(str(error))}") from error
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


def comment_of(plan: Plan, nonce: str) -> str:
    """By which a submission is found again in the queue."""
    return f"vqvae-jobs:{plan.name}:{nonce}"


def code_environment(code: Path) -> dict[str, str]:
    """Variables by which jobs run the code in the folder ``code``, and not what lies in the working folder by then."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{code}:{path}" if path else str(code), "PYTHONSAFEPATH": "1"}


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
