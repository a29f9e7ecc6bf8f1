"""Running out of memory: noted where it happens, agreed by all processes, and answered with smaller micro-batches.

A process that runs out must not leave the others waiting in a collective. So nothing is exchanged within a forward or
backward pass: each process notes that it ran out and comes to ``Runtime.agree``, where all of them raise
OutOfMemoryError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import should_reduce_batch_size


class OutOfMemoryError(Exception):
    """A process ran out of memory in this step; raised by all of them at the same line."""


class MemoryNote:
    """Whether this process ran out of memory since the processes last agreed."""

    def __init__(self) -> None:
        self.ran_out = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Note that memory ran out in this block instead of raising; its results are then not to be used."""
        try:
            yield
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            self.ran_out = True


def smaller_micro_batch(share: int, micro: int) -> int | None:
    """At most half of ``micro`` slices, and a divisor of a process's ``share`` of the batch; None below 1."""
    return largest_divisor(share, micro // 2) if micro > 1 else None


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is not above ``limit`` (from 1)."""
    return next(size for size in range(min(number, limit), 0, -1) if number % size == 0)
