"""Where every member and stage of a sweep stands: the run's own word first, then the cluster's, then the ledger's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data_tools.console import CommandError
from jobs.folder import Plan, PlannedMember, SweepFolder
from jobs.ledger import History, Ledger
from jobs.pipeline import TRAIN_PRIOR, compose_prior
from jobs.processes import ProcessName
from jobs.progress import Progress, read_progress
from jobs.slurm_query import JobState, Slurm
from vqvae_dist.run_folder import RunFolder

State = Literal["pending", "running", "requeued", "completed", "failed", "cancelled", "lost"]

RUNNING = JobState("RUNNING")
GONE = JobState("GONE")
"""The cluster (or this machine) knows the job no more."""

UNSEEN = JobState("UNSEEN")
"""Nothing can be said about the job: its cluster doesn't answer, or it is another machine's process."""


@dataclass(frozen=True)
class Status:
    """One row of ``status``, and of ``status --json``."""

    run_id: str
    stage: str
    name: str
    state: State
    step: int | None
    steps: int | None
    best: dict[str, Any] | None
    slices_per_second: float | None
    job_id: str | None
    attempts: int
    reason: str
    unit: str
    """What the ledger calls it: the run id of a member, the name of a stage."""
    loss: float | None = None
    eta_s: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it unless somebody asks."""
        return self.state in ("completed", "failed", "cancelled", "lost")

    @property
    def active(self) -> bool:
        """Whether a job of it waits or runs."""
        return self.state in ("running", "requeued") or (self.state == "pending" and self.job_id is not None)


def read_status(folder: SweepFolder, plan: Plan) -> list[Status]:
    """The status of all members, then of the pipeline's stages."""
    histories = Ledger(folder.events_file).histories()
    jobs = job_states(histories.values(), plan.slurm)
    members = [_member_status(folder, plan, member, histories, jobs) for member in plan.members]
    stages: list[Status] = []
    for stage in plan.pipeline:
        row = _stage_status(folder, plan, stage.name, histories.get(stage.name, History()), jobs)
        if row.state == "pending" and not (row.job_id or row.reason):
            row = replace(row, reason=_waits_for(stages[-1]) if stages else _waits_for_members(plan, members))
        stages.append(row)
    return members + stages


def _waits_for(before: Status) -> str:
    """Why a stage behind another has not begun."""
    return "next" if before.state == "completed" else f"waits for {before.unit}"


def _waits_for_members(plan: Plan, members: Iterable[Status]) -> str:
    """Why the first stage has not begun: it needs one completed member, once all have ended."""
    current = {member.run_id for member in plan.current}
    rows = [row for row in members if row.unit in current]
    if not all(row.ended for row in rows):
        return "waits for the members"
    return "next" if any(row.state == "completed" for row in rows) else "waits for a completed member"


def job_states(histories: Iterable[History], slurm: Slurm) -> dict[str, JobState]:
    """What is known of every unit's newest job, by job id; Slurm is asked once."""
    known = [history for history in histories if history.job_id]
    remote = [history.job_id for history in known if history.executor == "slurm"]
    answer = slurm.states(remote)
    missing = GONE if answer.queue_answered else UNSEEN
    states = {job_id: answer.jobs.get(job_id, missing) for job_id in remote}
    for history in known:
        if history.executor == "local":
            alive = ProcessName(**history.process).is_alive() if history.process else False
            states[history.job_id] = UNSEEN if alive is None else RUNNING if alive else GONE
    return states


def judge(history: History, run_state: str, job: JobState) -> tuple[State, str]:
    """The state of a unit and the reason for it.

    ``run_state`` is what the summary.json of a member says, or the ledger of a stage. Completed is only what says so
    itself and isn't running any more.
    """
    if job.waiting:
        return ("requeued" if history.attempts else "pending"), job.detail
    if job.active and not (job.state == "COMPLETING" and run_state == "completed"):
        return "running", ""
    if run_state == "completed":
        return "completed", ""
    if not history.job_id:
        return ("cancelled" if history.outcome == "cancelled" else "pending"), history.reason
    if history.outcome in ("failed", "cancelled"):
        return ("failed" if history.outcome == "failed" else "cancelled"), history.reason
    if job.state == "CANCELLED":
        return "cancelled", job.detail
    if job.state == "UNSEEN":
        return ("running" if history.attempts else "pending"), "its cluster or machine does not answer"
    if history.outcome == "stopped" and history.executor == "local":
        return "pending", history.reason or "stopped; submit again to go on"
    return "lost", history.reason or _how_it_ended(job)


def _how_it_ended(job: JobState) -> str:
    if job.state == "GONE":
        return "its job ended without a word"
    return f"{job.state} {job.detail}".strip()


def _member_status(
    folder: SweepFolder,
    plan: Plan,
    member: PlannedMember,
    histories: Mapping[str, History],
    jobs: Mapping[str, JobState],
) -> Status:
    history = histories.get(member.run_id, History())
    progress = _progress(folder.run(member.run_id))
    state, reason = _judged(history, progress.state, jobs, progress)
    note = " (not in the sweep file any more)" if member.dropped else ""
    return Status(
        run_id=member.run_id,
        stage=plan.stage,
        name=member.label or member.run_id,
        state=state,
        step=progress.step,
        steps=member.steps,
        best=progress.best,
        slices_per_second=progress.slices_per_second,
        job_id=history.job_id or None,
        attempts=history.attempts,
        reason=(reason + note).strip(),
        unit=member.run_id,
        loss=progress.loss,
        eta_s=_time_left(progress, member.steps, member.batch_size) if state == "running" else None,
    )


def _stage_status(folder: SweepFolder, plan: Plan, name: str, history: History, jobs: Mapping[str, JobState]) -> Status:
    """A stage is completed when its job says so: a prior that is there may be of other codes or settings."""
    chosen = folder.read_choice()
    progress, eta = Progress(), None
    if name == TRAIN_PRIOR and chosen:
        progress = _progress(RunFolder(folder.pipeline(chosen).prior))
    state, reason = _judged(history, history.outcome, jobs, progress)
    if state == "running" and progress.steps:
        stage = next(stage for stage in plan.pipeline if stage.name == name)
        schedule = compose_prior(stage, source=str(folder.plan_file), codes=Path("codes.h5")).schedule
        eta = _time_left(progress, progress.steps, schedule.batch_size)
    return Status(
        run_id=chosen or name,
        stage=name,
        name=plan.name,
        state=state,
        step=progress.step,
        steps=progress.steps,
        best=progress.best,
        slices_per_second=progress.slices_per_second,
        job_id=history.job_id or None,
        attempts=history.attempts,
        reason=reason,
        unit=name,
        loss=progress.loss,
        eta_s=eta,
    )


def _progress(run: RunFolder) -> Progress:
    try:
        return read_progress(run)
    except CommandError as error:  # a damaged summary hides one run, not the sweep
        return Progress(reason=str(error))


def _judged(history: History, says: str, jobs: Mapping[str, JobState], progress: Progress) -> tuple[State, str]:
    state, reason = judge(history, says, jobs.get(history.job_id, GONE))
    return state, reason or (progress.reason if state in ("failed", "lost") else "")


def _time_left(progress: Progress, steps: int, batch_size: int) -> float | None:
    """Seconds, at the speed of now."""
    speed = progress.slices_per_second
    return (steps - (progress.step or 0)) * batch_size / speed if speed else None
