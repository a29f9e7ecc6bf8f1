"""events.jsonl: what happened in a sweep, appended by whoever did it and never changed; and its reading.

A unit is a member (its run id) or a stage of the pipeline (its name). Events and their values:

    submitting  nonce, units                   before a cluster is asked
    submitted   unit, job_id, executor         and nonce (Slurm), or process and gpus (local)
    abandoned   nonce                          a submission whose job ids were lost was cancelled
    started     unit, job_id, restart, step    by rank 0 of the job; step: of the checkpoint it goes on from
    ended       unit, job_id, state, reason    by the job; state: completed, stopped, failed, crashed
    cancelled   unit, by                       by `cancel`
    reopened    unit, reason                   to be run again: by `retry`, or a stage whose members changed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vqvae_dist.files import append_whole, naming
from vqvae_dist.json_files import BAD_TEXT

Event = dict[str, Any]

JOB_ID = re.compile(r"[A-Za-z0-9_.+-]*")
"""It is a part of the name of a log."""


@dataclass(frozen=True)
class Ledger:
    """The events of one sweep."""

    path: Path

    def append(self, event: str, **values: Any) -> None:
        """Add an event; whole or not at all, whoever else appends at the moment."""
        self.append_all([{"event": event, **values}])

    def append_all(self, events: Iterable[Event]) -> None:
        """Add several events in one write."""
        now = round(time.time(), 3)
        lines = "".join(json.dumps({"time": now, **event}, allow_nan=False) + "\n" for event in events)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            with naming(self.path), _locked(descriptor):
                append_whole(descriptor, (_line_end(descriptor) + lines).encode())
        finally:
            os.close(descriptor)

    def read(self) -> list[Event]:
        """All events in order; a line cut by a kill is left out."""
        if not self.path.is_file():
            return []
        return list(_parse(self.path.read_text(encoding="utf-8", errors="replace")))

    def histories(self) -> dict[str, History]:
        """What happened to each unit."""
        return read_histories(self.read())


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Exclude other writers; a file system without locks still appends each write as a whole."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _line_end(descriptor: int) -> str:
    """A line break where a killed writer left its last line without one."""
    size = os.fstat(descriptor).st_size
    return "" if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n" else "\n"


def _parse(text: str) -> Iterator[Event]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except BAD_TEXT:
            continue
        if isinstance(event, dict) and _is_whole(event):
            yield event


_VALUES: dict[str, dict[str, type]] = {
    "submitting": {"nonce": str},
    "submitted": {"unit": str, "job_id": str, "executor": str},
    "abandoned": {"nonce": str},
    "started": {"unit": str, "job_id": str, "restart": int, "step": int},
    "ended": {"unit": str, "job_id": str, "state": str},
    "cancelled": {"unit": str},
    "reopened": {"unit": str},
}
_OPTIONAL: dict[str, type] = {"process": dict, "gpus": list, "nonce": str, "reason": str, "by": str, "job_id": str}
_PROCESS: dict[str, type] = {"host": str, "boot": str, "pid": int, "started": int}


def _is_whole(event: Event) -> bool:
    """Whether an event holds what its kind needs; later versions may know more kinds."""
    kind, process = event.get("event"), event.get("process")
    if not isinstance(kind, str) or not _all_are(event, _VALUES.get(kind, {})):
        return False
    given = {key: of for key, of in _OPTIONAL.items() if event.get(key) is not None}
    return (
        _all_are(event, given)
        and (process is None or (_all_are(process, _PROCESS) and process.keys() == _PROCESS.keys()))
        and all(isinstance(gpu, int) for gpu in event.get("gpus") or ())
        and JOB_ID.fullmatch(event.get("job_id") or "") is not None
    )


def _all_are(values: Event, kinds: Mapping[str, type]) -> bool:
    return all(isinstance(values.get(key), kind) for key, kind in kinds.items())


class Start(NamedTuple):
    """One start of a job."""

    job_id: str
    restart: int
    """Slurm's count of requeues."""

    step: int
    """Of the checkpoint it went on from; 0 without one."""


@dataclass
class History:
    """What happened to one unit, as far as the ledger knows."""

    job_id: str = ""
    """Of the newest submission; empty before the first, and when it is to be run again."""

    executor: str = ""
    process: dict[str, Any] | None = None
    """Of a local job: what identifies its process."""

    gpus: tuple[int, ...] = ()
    """Of a local job: the GPUs it was given."""

    starts: list[Start] = field(default_factory=list)
    reopened: int = 0
    """Starts before it was last reopened; those count no more against the attempts it has."""

    outcome: str = ""
    """completed, stopped, failed, crashed or cancelled; empty while nothing has ended."""

    reason: str = ""

    @property
    def attempts(self) -> int:
        """Starts in all."""
        return len(self.starts)

    def starts_at(self, step: int, *, but: tuple[str, int]) -> int:
        """Starts in a row, up to the newest, that went on from ``step``; the job and restart ``but`` left out."""
        count = 0
        for start in reversed(self.starts[self.reopened :]):
            if (start.job_id, start.restart) == but:
                continue
            if start.step != step:
                break
            count += 1
        return count

    def apply(self, event: Event) -> None:
        """Take one more event of this unit into account."""
        match event["event"]:
            case "submitted":
                self.job_id, self.executor = str(event["job_id"]), event["executor"]
                self.process, self.gpus = event.get("process"), tuple(event.get("gpus") or ())
                self.outcome = ""
            case "started":
                self.starts.append(Start(str(event["job_id"]), event["restart"], event["step"]))
                if self.outcome != "cancelled":
                    self.outcome = ""
            case "ended":
                # A cancelled run that saved and left ended as "stopped"; it stays cancelled.
                if self.outcome != "cancelled" or event["state"] == "completed":
                    self.outcome, self.reason = event["state"], event.get("reason") or ""
            case "cancelled":
                self.outcome, self.reason = "cancelled", event.get("by") or ""
            case "reopened":
                self.job_id, self.outcome, self.reason = "", "", ""
                self.reopened = len(self.starts)


def read_histories(events: Iterable[Event]) -> dict[str, History]:
    """Fold events into a history for each unit."""
    histories: dict[str, History] = {}
    for event in events:
        if isinstance(event.get("unit"), str):
            histories.setdefault(event["unit"], History()).apply(event)
    return histories


def open_submissions(events: Iterable[Event]) -> list[str]:
    """Nonces of submissions that were begun and whose job ids were never written down."""
    began: dict[str, None] = {}
    for event in events:
        if event["event"] == "submitting":
            began[event["nonce"]] = None
        elif event["event"] in ("submitted", "abandoned"):
            began.pop(event.get("nonce", ""), None)
    return list(began)
