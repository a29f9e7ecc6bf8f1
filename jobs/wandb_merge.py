"""All attempts of a run as one W&B log, in which each global step comes once.

An attempt that was killed has gone on past its last checkpoint; the next one did those steps again. W&B would show
both. Here the later attempt wins, values of one step become one row, and rows that a kill kept from the client's log
are taken from ``metrics.jsonl``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_tools.console import CommandError
from jobs.wandb_files import AttemptFolder, Record, new_record

Path = tuple[str, ...]
Row = dict[Path, str]
"""Values of one step as JSON text, by where they stand: ``("images/validate", "path")``."""

ONCE = ("header", "run", "metric", "exit")
"""Records that the newest attempt alone gives."""

STEP = re.compile(r"([0-9]{1,18})(\.0*)?")
"""A global step as JSON text."""


class DamagedRowError(ValueError):
    """A row that belongs to no step; the text says why."""


def merge(
    attempts: Sequence[AttemptFolder], metrics: Iterable[Mapping[str, Any]], *, after: int, with_exit: bool = True
) -> list[Record]:
    """Records of one log that holds what the server lacks.

    Args:
        attempts: In the order of their starts; the last one has a run record.
        metrics: Rows of metrics.jsonl; what the attempts' logs lack is taken from them.
        after: The last global step that the server has.
        with_exit: Whether the log ends the run, if the newest attempt did.
    """
    newest = attempts[-1]
    rows = merge_rows(attempts, metrics)
    once = {kind: [record for record in newest.records if _kind(record) == kind] for kind in ONCE}
    rest = [record for attempt in attempts for record in attempt.records if _passes(record, attempt)]
    new = [rows[step] for step in sorted(rows) if step > after]
    history = [history_record(number, row) for number, row in enumerate(new)]
    end = once["exit"] if with_exit else []
    return [*once["header"], *once["run"][:1], *once["metric"], *rest, *history, *_summary(rows), *end]


def merge_rows(attempts: Iterable[AttemptFolder], metrics: Iterable[Mapping[str, Any]]) -> dict[int, Row]:
    """Rows by global step; of attempts that did the same step, the later one counts.

    Raises:
        CommandError: A log holds a row of a step that is none.
    """
    rows: dict[int, Row] = {}
    for attempt in attempts:
        rows = {step: row for step, row in rows.items() if step <= attempt.resume_step}
        for record in attempt.records:
            row = history_row(record)
            if (step := step_in(attempt, row)) is not None:
                rows.setdefault(step, {}).update(row)
    for values in metrics:
        row = rows.setdefault(values["global_step"], {("_timestamp",): json.dumps(values.get("time", 0))})
        for key, value in values.items():
            if value is not None:
                row.setdefault((key,), json.dumps(value))
    return rows


def history_row(record: Record) -> Row:
    """The values of a history record; empty for a record of another kind."""
    items = record.history.item if record.HasField("history") else []
    return {_path(item): item.value_json for item in items}


def global_step(row: Row) -> int | None:
    """The step that a row belongs to; None for a row of none, DamagedRowError where what it says is no step."""
    text = row.get(("global_step",))
    if text is None:
        return None
    said = STEP.fullmatch(text)
    if not said:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise DamagedRowError(f"global_step must be a whole number from 0 in every row, got {shown!r}")
    return int(said[1])


def step_in(attempt: AttemptFolder, row: Row) -> int | None:
    """``global_step`` of a row of an attempt; CommandError names its log."""
    try:
        return global_step(row)
    except DamagedRowError as error:
        raise CommandError(f"{attempt.log}: damaged, {error}; mend or remove this log, and sync again") from None


def last_step(records: Iterable[Record], default: int) -> int:
    """The last global step in some records; ``default`` without any."""
    steps = [step for record in records if (step := global_step(history_row(record))) is not None]
    return max(steps, default=default)


def history_record(number: int, row: Row) -> Record:
    """A row as the ``number``-th of a log; the server counts on from the rows it has."""
    record = new_record()
    record.history.step.num = number
    for path, value in (row | {("_step",): str(number)}).items():
        record.history.item.add(nested_key=path, value_json=value)
    return record


def _summary(rows: Mapping[int, Row]) -> list[Record]:
    """The newest value of each metric, as one summary record."""
    newest: Row = {}
    for step in sorted(rows):
        newest |= rows[step]
    record = new_record()
    for path, value in newest.items():
        if path != ("_step",):
            record.summary.update.add(nested_key=path, value_json=value)
    return [record] if newest else []


def _passes(record: Record, attempt: AttemptFolder) -> bool:
    """Records that go to the server as they are; of an attempt that was sent before, only its summary."""
    kind = _kind(record)
    return kind == "summary" or (not attempt.sent and kind not in (*ONCE, "history"))


def _kind(record: Record) -> str:
    return record.WhichOneof("record_type") or ""


def _path(item: Record) -> Path:
    return tuple(item.nested_key) or (item.key,)
