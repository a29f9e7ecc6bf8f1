"""metrics.jsonl: a JSON object a logged step, on disk before training goes on. The truth, whatever happens to W&B."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqvae_dist.files import append_whole, naming, write_file
from vqvae_dist.json_files import BAD_TEXT

SYNC_EVERY_S = 2.0
"""Rows reach the disk itself, not only the operating system, within this time."""

Number = float | int | None


class MetricsFile:
    """Appends rows to metrics.jsonl.

    A row is handed to the operating system before ``append`` returns, so that no signal to this process loses it. A
    thread of its own makes rows durable against a dying node: fsync on a busy network file system can take seconds,
    and training must not wait for it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._failure: OSError | None = None
        self._file = path.open("ab", buffering=0)
        self._dirty = False
        self._closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync_regularly, name="metrics-fsync", daemon=True)
        self._syncing.start()

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row of values that JSON knows (see ``json_number``).

        Raises:
            OSError: The row can't be written, and nothing of it was; or earlier ones could not be made durable.
        """
        line = json.dumps(row, allow_nan=False)
        with naming(self._path):
            if self._failure:
                raise self._failure
            append_whole(self._file.fileno(), f"{line}\n".encode())
        self._dirty = True

    def close(self) -> None:
        """Make every row durable and close; again does nothing."""
        self._closed.set()
        self._syncing.join()
        if not self._file.closed:
            with naming(self._path), self._file:
                os.fsync(self._file.fileno())

    def _sync_regularly(self) -> None:
        while not self._closed.wait(SYNC_EVERY_S):
            if self._dirty:
                self._dirty = False  # before fsync: a row that comes meanwhile makes it dirty again
                try:
                    os.fsync(self._file.fileno())
                except OSError as error:
                    self._failure = error
                    return


def json_number(value: Any) -> Any:
    """A numpy or Python number as JSON knows it; NaN and infinity as None; text as it is."""
    if value is None or isinstance(value, str | bool | int):
        return value
    number = value.item() if hasattr(value, "item") else value
    return number if isinstance(number, int) or math.isfinite(number) else None


def cut_after(path: Path, step: int) -> None:
    """Leave only whole rows up to global step ``step`` in a metrics.jsonl; nothing happens where there is none."""
    kept = rows_until(path, step)
    if path.is_file() and kept != path.read_bytes():
        write_file(path, kept)


def rows_until(path: Path, step: int) -> bytes:
    """The whole rows of a metrics.jsonl up to global step ``step``, as they stand there."""
    content = path.read_bytes() if path.is_file() else b""
    return b"".join(line for line in content.splitlines(keepends=True) if _is_row_until(line, step))


def _is_row_until(line: bytes, step: int) -> bool:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except BAD_TEXT:  # torn by a kill
        return False
    return isinstance(row, dict) and isinstance(row.get("global_step"), int) and row["global_step"] <= step
