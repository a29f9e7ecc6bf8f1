"""Showing what jobs printed."""

from __future__ import annotations

import shlex
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from data_tools.console import CommandError, UsageError, printable, say
from jobs.folder import SweepFolder
from jobs.status import Status, read_status
from jobs.units import find_rows

TAIL_LINES = 5
POLL_S = 0.5
STATUS_EVERY_S = 5.0

SUBMITITS_OWN = "submitit INFO ("


def show_logs(folder: SweepFolder, name: str, *, follow: bool, rank: int, lines: int) -> int:
    """Print one log, or the end of every log; return the exit status."""
    if lines < 0:
        raise UsageError(f"--lines must be 0 (all) or more, got {lines}")
    rows = read_status(folder, folder.read_plan())
    if name or len(rows) == 1:
        row = find_rows(rows, [name])[0] if name else rows[0]
        return _show(folder, row, follow=follow, rank=rank, lines=lines)
    if follow:
        status = f"python -m jobs status {shlex.quote(str(folder.path))}"
        raise UsageError(f"--follow takes one member or stage; name it (`{status}` lists them)")
    for row in rows:
        file = folder.log_file(row.job_id or "-", rank)
        say(f"== {row.unit} ({row.state}) {file if file.is_file() else 'no log'}")
        if file.is_file():
            _print_end(file, lines or TAIL_LINES)
    return 0


def _show(folder: SweepFolder, row: Status, *, follow: bool, rank: int, lines: int) -> int:
    if not row.job_id:
        raise CommandError(f"{row.unit} is {row.state}: it has no job, and so no log")
    file = folder.log_file(row.job_id, rank)
    if not file.is_file() and not follow:
        raise CommandError(f"{row.unit} is {row.state}: {file} isn't there")
    if follow:
        _follow(folder, row, file, lines)
    elif lines:
        _print_end(file, lines)
    else:
        with file.open(encoding="utf-8", errors="replace") as stream:
            _print(*_shown(stream))
    return 0


def _follow(folder: SweepFolder, row: Status, file: Path, lines: int) -> None:
    """Print a log as it grows, until the unit has ended."""
    while not file.is_file():
        if _has_ended(folder, row):
            raise CommandError(f"{row.unit}: ended without a log")
        time.sleep(POLL_S)
    with file.open(encoding="utf-8", errors="replace") as stream:
        if lines:
            _print(*deque(_shown(stream), lines))
        asked = time.monotonic()
        while True:
            _print(*_shown(_whole_lines(stream)))
            if time.monotonic() - asked > STATUS_EVERY_S:
                asked = time.monotonic()
                if _has_ended(folder, row):
                    _print(*_shown(stream))
                    return
            time.sleep(POLL_S)


def _has_ended(folder: SweepFolder, row: Status) -> bool:
    rows = read_status(folder, folder.read_plan())
    return all(now.ended or not now.active for now in rows if now.unit == row.unit)


def _print_end(file: Path, lines: int) -> None:
    with file.open(encoding="utf-8", errors="replace") as stream:
        _print(*deque(_shown(stream), lines))


def _shown(lines: Iterable[str]) -> Iterator[str]:
    """The lines without those by which submitit tells what it does itself."""
    return (line for line in lines if not line.startswith(SUBMITITS_OWN))


def _whole_lines(stream: TextIO) -> Iterator[str]:
    """The lines that are there by now; one that is still being written waits for the next time."""
    while True:
        start = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(start)
            return
        yield line


def _print(*lines: str) -> None:
    sys.stdout.write(printable("".join(lines)))
    sys.stdout.flush()
