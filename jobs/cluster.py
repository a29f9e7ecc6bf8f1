"""Submitting a sweep to Slurm: its members as an array, and behind it the pipeline, chained in Slurm itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from data_tools.console import counted, say, warn
from jobs.executors import dependency_of
from jobs.folder import Plan, SweepFolder
from jobs.launch import cancel_orphans, submit_arrays, submit_stage
from jobs.ledger import Ledger
from jobs.outcome import how_to_retry, tell_outcome
from jobs.snapshot import take_snapshot
from jobs.status import read_status
from jobs.tables import count_states

POLL_S = 5.0


def submit_to_slurm(folder: SweepFolder, plan: Plan, units: Sequence[str], stages: Sequence[str]) -> None:
    """Submit members, and a new chain of stages that waits for all that is under way."""
    orphans = cancel_orphans(folder, plan)
    if orphans:
        warn(f"cancelled {counted(orphans, 'job')} of a submission that was killed before it wrote them down")
    if not units and not stages:
        rows = read_status(folder, plan)
        say(f"{plan.name}: nothing to submit; {count_states(rows)}")
        for line in how_to_retry(folder, rows):
            say(line)
        return
    code = take_snapshot(folder)
    if stages:
        _cancel_waiting_stages(folder, plan, stages)
    ids = submit_arrays(folder, plan, units, code=code) if units else []
    if ids:
        say(f"{plan.name}: submitted {counted(len(units), 'member')} as {', '.join(ids)}")
    _submit_chain(folder, plan, stages, code)
    say(f"python -m jobs status {folder.path}")


def _cancel_waiting_stages(folder: SweepFolder, plan: Plan, stages: Sequence[str]) -> None:
    """Take stages out of the queue that wait for less than they now should."""
    rows = [row for row in read_status(folder, plan) if row.unit in stages and row.active and row.state != "running"]
    plan.slurm.cancel([row.job_id for row in rows if row.job_id])
    if rows:
        units = [{"event": "reopened", "unit": row.unit, "reason": "the chain changed"} for row in rows]
        Ledger(folder.events_file).append_all(units)


def _submit_chain(folder: SweepFolder, plan: Plan, stages: Sequence[str], code: Path) -> None:
    """Submit the stages, the first of them behind everything of the sweep that is under way."""
    rows = read_status(folder, plan)
    before = sorted({row.job_id.partition("_")[0] for row in rows if row.active and row.job_id}, key=int)
    for stage in plan.pipeline:
        if stage.name in stages:
            after = dependency_of(stage, before, first=stage.name == stages[0])
            job_id = submit_stage(folder, plan, stage, after=after, code=code)
            say(f"{stage.name}: submitted as {job_id}" + (f", {after}" if after else ""))
            before = [job_id]


def wait_for(folder: SweepFolder, plan: Plan) -> int:
    """Come back when everything has ended; 0 if all of it is completed."""
    said = ""
    while True:
        rows = read_status(folder, plan)
        text = count_states(rows)
        if text != said:
            say(f"{plan.name}: {text}")
            said = text
        if not any(row.active for row in rows):
            return tell_outcome(folder, plan, rows)
        time.sleep(POLL_S)
