"""A process that hangs ends the run within a minute or so; without this the others would wait for it in a collective.

Every process counts in a store of the process group's address (``torch.distributed.TCPStore``; nothing is written to
the file system), and watches that the count of the next one goes on. What is compared is a counter, never a clock of
another machine. A process whose main thread is busy, compiling or waiting for a disk, goes on counting: it lives.
One that lives and does not come to a collective is the affair of ``runtime.collective_timeout_s``.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # torch.distributed re-exports them

from data_tools.console import warn

BEAT_S = 1.0
"""Seconds between two counts."""

DUMPED_S = 3.0
"""The one who notices gives the others this long to write down where they are, before anything ends them."""

GIVEN_UP_S = 20.0
"""The others give that one this long to have the run started again."""

HUNG = 75
"""Exit status after a hang: EX_TEMPFAIL, another try may do."""

_on_hang: list[Callable[[str], None]] = []


def on_hang(call: Callable[[str], None]) -> None:
    """Say whom to tell why this process ends, just before it does; the one that notices first tells."""
    _on_hang[:] = [call]


class Heartbeat:
    """This process's count, and its watch over the next one's.

    Args:
        rank: Of this process.
        processes: How many there are.
        timeout_s: Seconds without a count after which a process counts as hung.
        stacks: Folder for what each process's threads were doing then, a file a rank.
    """

    def __init__(self, *, rank: int, processes: int, timeout_s: float, stacks: Path) -> None:
        self.rank, self.processes, self.timeout_s, self.stacks = rank, processes, timeout_s, stacks
        self.next = (rank + 1) % processes
        self._stopped = threading.Event()
        self._lost = False  # the store is gone: whoever held it has ended, which others notice in their own way
        self._heard = self._answered = time.monotonic()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        threading.Thread(target=self._watch, name="heartbeat-watch", daemon=True).start()

    def stop(self) -> None:
        """Count and watch no more."""
        self._stopped.set()

    def _beat(self) -> None:
        try:
            store = connect()
            last = -1
            while not self._stopped.wait(BEAT_S):
                store.add(f"beat/{self.rank}", 1)
                count, hung = store.add(f"beat/{self.next}", 0), store.add("hung", 0)
                self._answered = time.monotonic()
                if count != last:
                    last, self._heard = count, self._answered
                if hung:
                    self._end(f"process {hung - 1} hangs", tell=False)
        except Exception:  # whatever the store raises when its process is gone
            self._lost = True

    def _watch(self) -> None:
        while not self._stopped.wait(BEAT_S) and not self._lost:
            now = time.monotonic()
            if now - self._answered > self.timeout_s:  # the store is in process 0, unless a launcher holds it
                self._end("process 0 hangs", tell=self.rank == 1)
            elif now - self._heard > self.timeout_s:
                threading.Thread(target=self._tell_others, daemon=True).start()  # may block
                self._end(f"process {self.next} hangs", tell=True)

    def _tell_others(self) -> None:
        connect().add("hung", self.next + 1)

    def _end(self, reason: str, *, tell: bool) -> None:
        """Write down where this process is, and end it; with ``tell``, have the run started again before."""
        if self._stopped.is_set():
            return
        self.stacks.mkdir(parents=True, exist_ok=True)
        file = self.stacks / f"rank{self.rank}.txt"
        with file.open("w") as stream:
            stream.write(f"{reason}: no count for {self.timeout_s:g} s\n")
            stream.flush()
            faulthandler.dump_traceback(stream, all_threads=True)
        warn(f"{reason}: no sign of life for {self.timeout_s:g} s; where this process was is in {file}; ending")
        try:
            if tell:
                time.sleep(DUMPED_S)
                for call in _on_hang:
                    call(reason)
            else:
                time.sleep(GIVEN_UP_S)
        finally:
            os._exit(HUNG)


def connect() -> PrefixStore:
    """A client of the process group's store; its calls wait as long as it takes."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(days=1), wait_for_workers=False)
    return PrefixStore(f"heartbeat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
