"""How far a sweep is as a whole, from the rows of its status."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from data_tools.console import Bar
from jobs.folder import Plan
from jobs.status import Status
from jobs.tables import duration_text


def how_far(plan: Plan, rows: Sequence[Status]) -> Bar:
    """The share of the members and stages that is done, and in words: ``3/9 members, 12 min left``."""
    names = {member.run_id for member in plan.current}, {stage.name for stage in plan.pipeline}
    members, stages = ([row for row in rows if row.unit in chosen] for chosen in names)
    going_on = members if any(map(_goes_on, members)) else stages
    parts = [f"{_completed(members)}/{len(members)} members"]
    parts += [f"{_completed(stages)}/{len(stages)} stages"] if stages and going_on is stages else []
    parts += [f"{failed} failed"] if (failed := sum(row.state == "failed" for row in members + stages)) else []
    return Bar(statistics.fmean(map(_share, members + stages)), ", ".join(parts) + left_text(time_left(going_on)))


def time_left(rows: Sequence[Status]) -> float | None:
    """Seconds until all of these have ended, with as many at a time as now and at their speed; None without any."""
    running = [row for row in rows if row.state == "running"]
    speeds = [_steps_left(row) / row.eta_s for row in running if row.eta_s]  # steps a second
    if not speeds:
        return None
    steps = sum(_steps_left(row) for row in rows if _goes_on(row))
    return max(steps / (statistics.fmean(speeds) * len(running)), *(row.eta_s or 0.0 for row in running))


def step_bar(row: Status) -> Bar:
    """How far one that runs is, and in words: ``step 10/40, loss 0.25, 60 s left``; no words for what has no steps."""
    loss = f", loss {row.loss:.4g}" if row.loss else ""
    said = f"step {row.step or 0}/{row.steps}{loss}{left_text(row.eta_s)}" if row.steps else ""
    return Bar(_share(row), said)


def left_text(seconds: float | None) -> str:
    """``, 12 min left``, or nothing."""
    return "" if seconds is None else f", {duration_text(seconds)} left"


def _goes_on(row: Status) -> bool:
    return row.state not in ("completed", "failed", "cancelled")  # what was lost is started again


def _completed(rows: Sequence[Status]) -> int:
    return sum(row.state == "completed" for row in rows)


def _share(row: Status) -> float:
    return (row.step or 0) / row.steps if _goes_on(row) and row.steps else float(not _goes_on(row))


def _steps_left(row: Status) -> int:
    return (row.steps or 0) - (row.step or 0)
