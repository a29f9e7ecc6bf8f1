"""Submitting a sweep: what its file adds, and nothing that is there already."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.console import UsageError, say
from jobs.config import Profile
from jobs.executors import check_executor
from jobs.folder import Plan, SweepFolder, make_plan, write_sweep
from jobs.ledger import Event, Ledger
from jobs.profile import read_profile
from jobs.status import Status, read_status
from jobs.sweep import Sweep, read_sweep
from vqvae_dist.toml_files import read_toml


@dataclass(frozen=True)
class Proposal:
    """What submitting a sweep file would do."""

    sweep: Sweep
    folder: SweepFolder
    plan: Plan
    rows: list[Status]
    """Of the sweep as it stands."""
    missing: tuple[str, ...]
    """Members to be run."""
    stages: tuple[str, ...]
    """Stages of the pipeline to be run."""


def propose(file: Path, *, profile: Profile, root: Path) -> Proposal:
    """Read and check a sweep file, and compare it with what is there."""
    sweep = read_sweep(file, wandb_mode=profile.wandb_mode)
    folder = SweepFolder((root / sweep.name).resolve())
    old = folder.read_plan() if folder.plan_file.is_file() else None
    if old and old.stage != sweep.stage:
        raise UsageError(f"{file}: {folder.path} is a sweep of {old.stage}, not {sweep.stage}; give it another name")
    plan = make_plan(sweep, profile, old)
    rows = read_status(folder, plan)
    missing = missing_members(plan, rows)
    changed = bool(missing) or old is None or _outline(old) != _outline(plan)
    return Proposal(sweep, folder, plan, rows, missing, due_stages(plan, rows, changed=changed))


def missing_members(plan: Plan, rows: Sequence[Status]) -> tuple[str, ...]:
    """Members of the sweep file that neither wait, run, nor have ended for a reason of their own."""
    row = {row.unit: row for row in rows}
    units = (member.run_id for member in plan.current)
    return tuple(unit for unit in units if row[unit].state in ("pending", "lost") and not row[unit].active)


def due_stages(plan: Plan, rows: Sequence[Status], *, changed: bool) -> tuple[str, ...]:
    """Stages to run: from the first that isn't completed or under way; all where the members changed."""
    names = [stage.name for stage in plan.pipeline]
    if changed:
        return tuple(names)
    done = {row.unit for row in rows if row.state == "completed" or row.active}
    first = next((position for position, name in enumerate(names) if name not in done), len(names))
    return tuple(names[first:])


def _outline(plan: Plan) -> object:
    """What the pipeline's result depends on."""
    return {member.run_id for member in plan.current}, plan.select, plan.pipeline


def begin(proposal: Proposal, *, wait: bool) -> int:
    """Do what was proposed; return the exit status."""
    check_executor(proposal.plan.profile)
    write_sweep(proposal.folder, proposal.sweep, proposal.plan)
    return start(proposal.folder, proposal.plan, proposal.missing, proposal.stages, wait=wait)


def start(folder: SweepFolder, plan: Plan, units: Sequence[str], stages: Sequence[str], *, wait: bool) -> int:
    """Run members and then stages of a sweep on its profile's executor; return the exit status."""
    if plan.profile.executor == "local":
        from jobs.local import run_here

        reopen(folder, stages, reason="members or settings changed")
        return run_here(folder, plan)
    from jobs.cluster import submit_to_slurm, wait_for

    submit_to_slurm(folder, plan, units, stages)
    return wait_for(folder, plan) if wait else 0


def reopen(folder: SweepFolder, units: Sequence[str], *, reason: str) -> None:
    """Note that units are to be run again; those that never ran need no note."""
    ledger = Ledger(folder.events_file)
    known = ledger.histories()
    events: list[Event] = [{"event": "reopened", "unit": unit, "reason": reason} for unit in units if unit in known]
    if events:
        ledger.append_all(events)


def choose_profile(file: Path, name: str, root: Path) -> Profile:
    """The named profile; without a name the one the sweep was submitted with before, else ``local``."""
    if not name:
        folder = SweepFolder(root / str(read_toml(file).get("name", "")))
        if folder.plan_file.is_file():
            return folder.read_plan().profile
    return read_profile(name or "local")


def detach_submit(proposal: Proposal, *, profile: str, root: Path) -> int:
    """Run the same command in the background, with its output in a file; return at once."""
    folder = proposal.folder
    write_sweep(folder, proposal.sweep, proposal.plan)  # so that `status` knows it at once
    command = [sys.executable, "-m", "jobs", "submit", str(proposal.sweep.source), "--root", str(root)]
    command += ["--profile", profile] if profile else []
    with folder.feeder_log.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    say(f"{proposal.plan.name} goes on in the background as process {process.pid}; it prints to {folder.feeder_log}")
    say(f"python -m jobs status {folder.path}\npython -m jobs cancel {folder.path}")
    return 0
