"""How far a training is, read from what it leaves in its run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqvae_dist.json_files import is_number
from vqvae_dist.run_folder import RunFolder, parse_rows

TAIL_BYTES = 1 << 16
"""Read of a long metrics.jsonl, from its end."""


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


def read_progress(run: RunFolder) -> Progress:
    """The progress of a run, from summary.json and the end of metrics.jsonl."""
    summary = run.read_summary() or {}
    rows = list(tail_rows(run))
    last = rows[-1] if rows else {}
    loss, speed = (_newest(rows, key) for key in ("train/loss", "train/slices_per_second"))
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


def _newest(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The last number that was logged under ``key``."""
    return next((row[key] for row in reversed(rows) if is_number(row.get(key))), None)


def tail_rows(run: RunFolder) -> list[dict[str, Any]]:
    """The last rows of metrics.jsonl, without reading a long file whole."""
    if not run.metrics_file.is_file():
        return []
    with run.metrics_file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - TAIL_BYTES))
        return list(parse_rows(stream.read().decode("utf-8", "replace")))
