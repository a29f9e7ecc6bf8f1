"""What becomes of memory that a process on a CPU has freed: ``keep_freed_memory``."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``."""


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next tensors; where it is not glibc, do nothing.

    By default glibc gives large blocks back to the system. A training step frees its activations and asks for as many
    in the next, and their pages then come one by one, zeroed, each time: a fifth of a step on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
