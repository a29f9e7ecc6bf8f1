"""The folders that the W&B client leaves in a run's ``wandb/``, one an attempt, and the log in each of them.

The log (``run-ID.wandb``) is a 7-byte header and then records in LevelDB's log format: blocks of 32 KiB counted from
the start of the file, in which each piece of a record has a 7-byte head (CRC-32 of type and data, length, type). A
record is a protobuf ``Record`` of ``wandb.proto.wandb_internal_pb2``. The client has no reader of its own to import.
"""

from __future__ import annotations

import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vqvae_dist.files import write_file

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
HEAD = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

BEGINNING = 256 * 1024
"""Bytes of a log within which it says which run it is of, and which attempt."""

QUIET_S = 90.0
"""A log without an end that was not written for this long belongs to a dead process: a live one writes system
metrics every 15 s."""

Record = Any
"""A protobuf message; its types are generated without annotations."""


class TornError(Exception):
    """The log ends, or is damaged, in the middle of a record."""


def new_record(content: bytes = b"") -> Record:
    """A record from its bytes, TornError where they are none; an empty one from none."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    try:
        return messages.Record.FromString(content)
    except DecodeError:
        raise TornError from None


def read_pieces(content: bytes) -> Iterator[bytes]:
    """Yield the whole records of a log; TornError after the last of them where the file goes on with a broken one."""
    position, parts = len(HEADER), list[bytes]()
    if content[: len(HEADER)] != HEADER:
        raise TornError
    while position < len(content):
        if BLOCK - position % BLOCK < HEAD.size:  # too little of the block is left for a head: padding
            position += BLOCK - position % BLOCK
            continue
        start = position + HEAD.size
        if start > len(content):
            raise TornError
        checksum, length, kind = HEAD.unpack_from(content, position)
        data = content[start : start + length]
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise TornError
        parts.append(data)
        position = start + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
    if parts:
        raise TornError


def frame(records: Iterable[bytes], *, position: int = 0) -> bytes:
    """Records as bytes of a log that is ``position`` bytes long already; 0 begins a log."""
    out = bytearray() if position else bytearray(HEADER)
    for record in records:
        rest, kinds = record, (FULL, FIRST)
        while True:
            left = BLOCK - (position + len(out)) % BLOCK
            if left < HEAD.size:
                out += bytes(left)
                left = BLOCK
            data, rest = rest[: left - HEAD.size], rest[left - HEAD.size :]
            kind = kinds[1] if rest else kinds[0]
            out += HEAD.pack(zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data
            kinds = (LAST, MIDDLE)
            if not rest:
                break
    return bytes(out)


def read_records(content: bytes) -> tuple[list[Record], bool]:
    """The whole records of a log, and whether it is torn, or damaged, behind them."""
    records: list[Record] = []
    try:
        for piece in read_pieces(content):
            records.append(new_record(piece))
    except TornError:
        return records, True
    return records, False


def run_of(records: Iterable[Record]) -> Record | None:
    """What describes the run, among the records of a log."""
    return next((record.run for record in records if record.HasField("run")), None)


def logged_number(run: Record | None, key: str, default: int) -> int:
    """A whole number that was logged as a setting of the run; ``default`` where there is none."""
    settings = run.config.update if run else []
    text = next((item.value_json for item in settings if item.key == key), "")
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else default


EVERYTHING = -1
"""What the client's own marker says to have been sent: it is empty."""


@dataclass(frozen=True)
class AttemptFolder:
    """What one attempt left for W&B."""

    path: Path
    started: str
    """Local time, as YYYYMMDD_HHMMSS; a clock may go back."""
    run_id: str
    online: bool
    """The client sent it while it ran, as far as the network let it."""

    @property
    def log(self) -> Path:
        """The client's log."""
        return self.path / f"run-{self.run_id}.wandb"

    @cached_property
    def content(self) -> tuple[list[Record], bool, int]:
        """Whole records, whether the log is torn behind them, and its size in bytes, all of one moment."""
        raw = self.log.read_bytes() if self.log.is_file() else b""
        return *read_records(raw), len(raw)

    @property
    def records(self) -> list[Record]:
        """The whole records."""
        return self.content[0]

    @property
    def torn(self) -> bool:
        """The log was cut in mid-record."""
        return self.content[1]

    @cached_property
    def run(self) -> Record | None:
        """The record that describes the run; None where the process was killed before it was written."""
        return run_of(self.records)

    @cached_property
    def order(self) -> tuple[int, int, str]:
        """Generation of the run, place among its attempts (-1 where the log does not say so), and then the clock."""
        beginning = b""
        with suppress(OSError), self.log.open("rb") as file:  # not there, or said when it is to be sent
            beginning = file.read(BEGINNING)
        run = run_of(read_records(beginning)[0])
        return logged_number(run, "generation", -1), logged_number(run, "attempt.index", -1), self.started

    @property
    def ended(self) -> bool:
        """The client wrote the end of the run."""
        return any(record.HasField("exit") for record in self.records)

    @property
    def alive(self) -> bool:
        """Some process still writes the log."""
        fresh = self.log.is_file() and time.time() - self.log.stat().st_mtime < QUIET_S
        return fresh and not self.ended

    @property
    def resume_step(self) -> int:
        """The step that this attempt went on from."""
        return logged_number(self.run, "attempt.resume_step", 0)

    @property
    def marker(self) -> Path:
        """Exists once the log was sent; the client's own marker is empty, ours holds how many bytes were sent."""
        return self.log.with_name(f"{self.log.name}.synced")

    @property
    def sent(self) -> bool:
        """Everything in the log was sent."""
        return self.marker.is_file() and self._sent_bytes in (EVERYTHING, self.log.stat().st_size)

    @property
    def marker_damaged(self) -> bool:
        """The marker says nothing that it could say; the log then counts as not sent."""
        return self.marker.is_file() and self._sent_bytes is None

    @property
    def _sent_bytes(self) -> int | None:
        said = self.marker.read_bytes().strip()
        return EVERYTHING if not said else int(said) if said.isdigit() and len(said) < 20 else None

    def mark_sent(self) -> None:
        """Note that everything that was read of the log is at the server."""
        write_file(self.marker, f"{self.content[2]}\n".encode())


_NAME = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(.+)")


def find_attempts(wandb_folder: Path) -> dict[str, list[AttemptFolder]]:
    """Attempts of each W&B run in a ``wandb/`` folder, in the order of their starts."""
    attempts: dict[str, list[AttemptFolder]] = {}
    for path in wandb_folder.iterdir():
        name = _NAME.fullmatch(path.name)
        if name and path.is_dir() and not path.is_symlink():
            attempt = AttemptFolder(path, started=name[2], run_id=name[3], online=name[1] is None)
            attempts.setdefault(attempt.run_id, []).append(attempt)
    return {run_id: in_order(found) for run_id, found in sorted(attempts.items())}


def in_order(attempts: list[AttemptFolder]) -> list[AttemptFolder]:
    """Attempts as they followed each other; no log is read of a single one."""
    return sorted(attempts, key=lambda attempt: attempt.order) if len(attempts) > 1 else attempts
