"""How a sweep ended, in lines for whoever submitted it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from data_tools.console import say
from jobs.folder import Plan, SweepFolder
from jobs.status import Status

SHOWN = 8
"""Names that a line holds at most."""


def tell_outcome(folder: SweepFolder, plan: Plan, rows: Sequence[Status]) -> int:
    """Say what did not complete, how it is run again, and where to look; return the exit status."""
    current = {member.run_id for member in plan.current} | {stage.name for stage in plan.pipeline}
    bad = [row for row in rows if row.unit in current and row.state != "completed"]
    for row in bad:
        say(f"  {row.unit}: {row.state}: {row.reason}")
    for line in how_to_retry(folder, bad):
        say(line)
    completed = {row.unit for row in rows if row.state == "completed"}
    if (chosen := folder.read_choice()) and chosen in completed & current:
        say(f"best: {folder.run(chosen).path}")
        made = f"report: {folder.report_html}" if "report" in completed else ""
        say(made or f"python -m jobs report {shlex.quote(str(folder.path))}")
    return 1 if bad else 0


def how_to_retry(folder: SweepFolder, rows: Sequence[Status]) -> Iterator[str]:
    """The command for what failed or was lost, and the one for what was cancelled, which has to be named."""
    command = f"python -m jobs retry {shlex.quote(str(folder.path))}"
    if any(row.state in ("failed", "lost") for row in rows):
        yield f"what failed or was lost runs again with: {command}"
    cancelled = [row.unit for row in rows if row.state == "cancelled"]
    if cancelled:
        names = [*cancelled[:SHOWN], *(["..."] if len(cancelled) > SHOWN else [])]
        yield f"what was cancelled runs again when it is named: {command} {' '.join(names)}"
