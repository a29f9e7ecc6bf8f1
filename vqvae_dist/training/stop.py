"""Asking the training in this process to stop. No torch: a signal may come while torch is still being imported."""

from __future__ import annotations

import threading

_stop = threading.Event()


def request_stop() -> None:
    """Ask the training in this process to stop: all ranks agree at the next step edge, save, and return.

    Safe to call from a signal handler.
    """
    _stop.set()


def stop_requested() -> bool:
    """Whether this process was asked to stop; the others may not know yet."""
    return _stop.is_set()
