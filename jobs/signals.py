"""Signals that ask a job to stop: noted at once, obeyed at the next step edge, enforced after a deadline."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

WARNING = signal.SIGUSR2
"""Slurm sends it before a time limit and, where the site allows it, before preemption. (USR1 clashes with NCCL.)"""


LAST_RESORT_S = 15


class StopRequestedError(Exception):
    """Raised in the middle of work that saves nothing, so that stopping it loses nothing either."""


class StopSignals:
    """Which stop signals have come."""

    def __init__(self) -> None:
        self.warned = False
        """Whether it was the warning, after which the job is to be run again."""
        self._asked = threading.Event()
        self._tell: Callable[[], None] | None = None
        self._deadline_s = 0
        self._interrupt = False

    def install(self, *, deadline_s: int, interrupt: bool, on_deadline: Callable[[], None] = lambda: None) -> None:
        """Take SIGUSR2 and SIGTERM over, from submitit's own handlers too.

        A training is told and returns by itself. With ``interrupt`` the handler raises StopRequestedError instead.
        A process that hasn't ended ``deadline_s`` after the signal dumps its stacks, calls ``on_deadline`` and exits.
        """
        self._deadline_s, self._interrupt = deadline_s, interrupt
        # The thread is there before the signal: one that is started in a handler may wait for a lock for ever.
        threading.Thread(target=self._enforce, args=[on_deadline], daemon=True).start()
        for number in (WARNING, signal.SIGTERM):
            signal.signal(number, self._handle)

    def tell(self, request_stop: Callable[[], None]) -> None:
        """Say whom to tell; a signal that came before is told at once."""
        self._tell = request_stop
        if self._asked.is_set():
            request_stop()

    def interrupt_nothing(self) -> None:
        """The work is over: what the process still does when it ends is not to be broken off."""
        self._interrupt = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.warned = self.warned or number == WARNING
        self._asked.set()
        # For a process that is stuck so deep that no thread of it runs any more.
        faulthandler.dump_traceback_later(self._deadline_s + LAST_RESORT_S, exit=True)
        if self._interrupt:
            raise StopRequestedError
        if self._tell:
            self._tell()

    def _enforce(self, on_deadline: Callable[[], None]) -> None:
        self._asked.wait()
        time.sleep(self._deadline_s)
        print(f"not ended {self._deadline_s} s after it was asked to:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        try:
            on_deadline()
        finally:
            os._exit(1)
