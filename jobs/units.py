"""Naming members and stages on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from data_tools.console import UsageError
from data_tools.hints import did_you_mean
from jobs.status import Status


def find_rows(rows: Sequence[Status], names: Iterable[str]) -> list[Status]:
    """The rows of units that are named, whole or by a part that only one has; UsageError for any other name."""
    return [_find(rows, name) for name in names]


def _find(rows: Sequence[Status], name: str) -> Status:
    exact = [row for row in rows if row.unit == name]
    found = exact or [row for row in rows if name in row.unit]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{name!r} could be {', '.join(row.unit for row in found)}; give more of it")
    known = [row.unit for row in rows]
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    raise UsageError(f"no member or stage {name!r}; there are {shown}{did_you_mean(name, known)}")
