"""Where every member and stage of a sweep stands: the run's own word first, then the cluster's, then the ledger's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from data_tools.console import CommandError
from jobs.folder import Plan, PlannedMember, SweepFolder
from jobs.ledger import History, Ledger
from jobs.pipeline import TRAIN_PRIOR
from jobs.processes import ProcessName
from jobs.slurm_query import JobState, Slurm
from vqvae_dist.run_folder import RunFolder, parse_rows

State = Literal["pending", "running", "requeued", "completed", "failed", "cancelled", "lost"]

RUNNING = JobState("RUNNING")
GONE = JobState("GONE")
"""The cluster (or this machine) knows the job no more."""

UNSEEN = JobState("UNSEEN")
"""Nothing can be said about the job: its cluster doesn't answer, or it is another machine's process."""

TAIL_BYTES = 1 << 16


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
    """The status of all members, then of the pipeline's stages that were submitted."""
    histories = Ledger(folder.events_file).histories()
    jobs = job_states(histories.values(), plan.slurm)
    rows = [_member_status(folder, plan, member, histories, jobs) for member in plan.members]
    stages = [stage.name for stage in plan.pipeline if stage.name in histories]
    return rows + [_stage_status(folder, plan, name, histories[name], jobs) for name in stages]


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

    ``run_state`` is what its summary.json says. Completed is only what says so itself and isn't running any more.
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
    state, reason, progress = _progress(folder.run(member.run_id), history, jobs)
    left = member.steps - (progress.step or 0)
    speed = progress.slices_per_second
    eta = left * member.batch_size / speed if speed and state == "running" else None
    note = " (not in the sweep file any more)" if member.dropped else ""
    return Status(
        run_id=member.run_id,
        stage=plan.stage,
        name=member.label or member.run_id,
        state=state,
        step=progress.step,
        steps=member.steps,
        best=progress.best,
        slices_per_second=speed,
        job_id=history.job_id or None,
        attempts=history.attempts,
        reason=(reason + note).strip(),
        unit=member.run_id,
        loss=progress.loss,
        eta_s=eta,
    )


def _stage_status(folder: SweepFolder, plan: Plan, name: str, history: History, jobs: Mapping[str, JobState]) -> Status:
    chosen = folder.read_choice()
    if name == TRAIN_PRIOR and chosen:
        state, reason, progress = _progress(RunFolder(folder.pipeline(chosen).prior), history, jobs)
    else:
        state, reason = judge(history, history.outcome, jobs.get(history.job_id, GONE))
        progress = Progress()
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
    )


@dataclass(frozen=True)
class Progress:
    """What a run folder says about its training."""

    state: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    best: dict[str, Any] | None = None
    slices_per_second: float | None = None
    seconds: float | None = None
    final: dict[str, Any] | None = None
    reason: str = ""


def _progress(run: RunFolder, history: History, jobs: Mapping[str, JobState]) -> tuple[State, str, Progress]:
    try:
        progress = read_progress(run)
    except CommandError as error:  # a damaged summary hides one run, not the sweep
        progress = Progress(reason=str(error))
    state, reason = judge(history, progress.state, jobs.get(history.job_id, GONE))
    return state, reason or (progress.reason if state in ("failed", "lost") else ""), progress


def read_progress(run: RunFolder) -> Progress:
    """The progress of a run, from summary.json and the end of metrics.jsonl."""
    summary = run.read_summary() or {}
    rows = list(tail_rows(run))
    last = rows[-1] if rows else {}
    loss = next((row["train/loss"] for row in reversed(rows) if row.get("train/loss") is not None), None)
    speed = next(
        (row.get("train/slices_per_second") for row in reversed(rows) if row.get("train/slices_per_second")), None
    )
    return Progress(
        state=summary.get("state", ""),
        step=max(filter(None, (summary.get("step"), last.get("global_step"))), default=None),
        steps=summary.get("steps"),
        loss=loss,
        best=summary.get("best"),
        slices_per_second=summary.get("slices_per_second") or speed,
        seconds=summary.get("seconds"),
        final=summary.get("final"),
        reason=summary.get("reason") or "",
    )


def tail_rows(run: RunFolder) -> list[dict[str, Any]]:
    """The last rows of metrics.jsonl, without reading a long file whole."""
    if not run.metrics_file.is_file():
        return []
    with run.metrics_file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - TAIL_BYTES))
        return list(parse_rows(stream.read().decode("utf-8", "replace")))


def status_json(rows: Iterable[Status]) -> list[dict[str, Any]]:
    """Rows as plain values."""
    return [asdict(row) for row in rows]


def status_table(rows: Sequence[Status]) -> str:
    """Rows as an aligned table, one line each, and a line that counts the states."""
    lines: list[tuple[str, ...]] = [("RUN", "STATE", "STEP", "LOSS", "BEST", "SLICES/S", "ETA", "TRY", "")]
    lines += [_table_line(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in lines
    ]
    return "\n".join(line.rstrip() for line in [*text, "", count_states(rows)])


def count_states(rows: Iterable[Status]) -> str:
    """``3 completed, 1 running``."""
    counts = Counter(row.state for row in rows)
    return ", ".join(f"{counts[state]} {state}" for state in get_args(State) if counts[state]) or "no members"


def _table_line(row: Status) -> tuple[str, ...]:
    step = "" if row.step is None and row.steps is None else f"{row.step or 0}/{row.steps}"
    value = (row.best or {}).get("value")
    return (
        row.unit,
        row.state,
        step,
        "" if row.loss is None else f"{row.loss:.4g}",
        "" if value is None else f"{value:.4f}",
        "" if row.slices_per_second is None else f"{row.slices_per_second:.1f}",
        "" if row.eta_s is None else duration_text(row.eta_s),
        str(row.attempts or ""),
        row.reason,
    )


def duration_text(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``, ``2.1 d``."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (36 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"
