"""Running members and stages again that failed or were lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data_tools.console import UsageError, counted, say
from jobs.config import Profile
from jobs.executors import check_executor
from jobs.folder import SweepFolder
from jobs.outcome import how_to_retry
from jobs.status import Status, read_status
from jobs.submit import reopen, start
from jobs.units import find_rows


def retry_units(folder: SweepFolder, names: Sequence[str], *, profile: Profile | None, wait: bool) -> int:
    """Run the named units, or all failed and lost ones, again; return the exit status."""
    plan = folder.read_plan()
    rows = read_status(folder, plan)
    chosen = select(rows, names)
    if not chosen:
        say("nothing to retry: none failed or was lost")
        for line in how_to_retry(folder, rows):
            say(line)
        return 0
    for row in chosen:
        say(f"{row.unit}: {row.state} after {counted(row.attempts, 'start')}: {row.reason}")
    if profile:
        plan = replace(plan, profile=profile)
    check_executor(plan.profile)
    folder.write_plan(plan)
    reopen(folder, [row.unit for row in chosen], reason="retry")
    members = [row.unit for row in chosen if row.stage == plan.stage]
    stages = [stage.name for stage in plan.pipeline]
    first = 0 if members else min(stages.index(row.unit) for row in chosen)
    return start(folder, plan, members, stages[first:], wait=wait)


def select(rows: Sequence[Status], names: Sequence[str]) -> list[Status]:
    """The rows to run again; UsageError for a named one that hasn't ended, or is completed."""
    if not names:
        return [row for row in rows if row.state in ("failed", "lost")]
    chosen = find_rows(rows, names)
    for row in chosen:
        if row.state not in ("failed", "lost", "cancelled"):
            raise UsageError(f"{row.unit} is {row.state}; only what failed, was lost or cancelled is run again")
    return chosen
