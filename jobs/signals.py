"""Signals that ask a job to stop: noted at once, obeyed at the next step edge, enforced after a deadline."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable
from types import FrameType

WARNING = signal.SIGUSR2
"""Slurm sends it before a time limit and, where the site allows it, before preemption. (USR1 clashes with NCCL.)"""


class StopRequestedError(Exception):
    """Raised in the middle of work that saves nothing, so that stopping it loses nothing either."""


class StopSignals:
    """Which stop signals have come."""

    def __init__(self) -> None:
        self.warned = False
        """Whether it was the warning, after which the job is to be run again."""
        self._asked = False
        self._tell: Callable[[], None] | None = None
        self._deadline_s = 0
        self._interrupt = False

    def install(self, *, deadline_s: int, interrupt: bool) -> None:
        """Take SIGUSR2 and SIGTERM over, from submitit's own handlers too.

        A training is told and returns by itself. With ``interrupt`` the handler raises StopRequestedError instead.
        A process that hasn't ended ``deadline_s`` after the signal dumps its stacks and exits.
        """
        self._deadline_s, self._interrupt = deadline_s, interrupt
        for number in (WARNING, signal.SIGTERM):
            signal.signal(number, self._handle)

    def tell(self, request_stop: Callable[[], None]) -> None:
        """Say whom to tell; a signal that came before is told at once."""
        self._tell = request_stop
        if self._asked:
            request_stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._asked = True
        self.warned = self.warned or number == WARNING
        if self._deadline_s:
            faulthandler.dump_traceback_later(self._deadline_s, exit=True)
        if self._interrupt:
            raise StopRequestedError
        if self._tell:
            self._tell()
