"""``status`` as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, get_args

from jobs.status import State, Status


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
