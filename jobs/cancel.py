"""Stopping members and stages: noted first, so that nothing starts them again."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.console import say
from jobs.folder import SweepFolder
from jobs.ledger import Event, Ledger
from jobs.local import ask_to_stop
from jobs.status import read_status
from jobs.units import find_rows


def cancel_units(folder: SweepFolder, names: Sequence[str], *, by: str) -> int:
    """Cancel the named units, or all that haven't ended; return the exit status."""
    plan = folder.read_plan()
    ledger = Ledger(folder.events_file)
    rows = read_status(folder, plan)
    chosen = [row for row in (find_rows(rows, names) if names else rows) if not row.ended]
    events: list[Event] = [{"event": "cancelled", "unit": row.unit, "by": by} for row in chosen]
    if not events:
        say("nothing to cancel: all have ended")
        return 0
    ledger.append_all(events)
    histories = ledger.histories()
    remote = [row.job_id for row in chosen if row.job_id and histories[row.unit].executor == "slurm"]
    if remote:
        plan.slurm.cancel(remote)
    for row in chosen:
        ask_to_stop(histories[row.unit])
    say(f"cancelled {len(chosen)}: " + ", ".join(row.unit for row in chosen[:8]) + (", ..." if len(chosen) > 8 else ""))
    return 0
