"""Which process is meant: a pid alone may be another process by now."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessName:
    """A process, told apart from every other one there ever was."""

    host: str
    boot: str
    pid: int
    started: int
    """Clock ticks after boot."""

    @classmethod
    def of(cls, pid: int) -> ProcessName:
        """The process that has this pid now."""
        return cls(socket.gethostname(), _boot(), pid, _started(pid) or 0)

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    def is_alive(self) -> bool | None:
        """Whether it still runs; None where that can't be seen from this machine."""
        if self.host != socket.gethostname():
            return None
        return self.boot == _boot() and _started(self.pid) == self.started


def _boot() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.is_file() else ""


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks after boot; None once it has ended, also where nobody reaped it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    values = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if values[0] in "ZX" else int(values[19])
