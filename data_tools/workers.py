"""Runs the decoding in several processes, in order and with few results in memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from data_tools.console import CommandError
from data_tools.decode import DecodeSettings, memory_limited, prepare, start_worker

Item = TypeVar("Item")
Result = TypeVar("Result")


class Run(Protocol):
    """What ``decoding`` provides."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply ``function`` to items, here or in other processes; results come in the order of the items."""


@contextlib.contextmanager
def decoding(processes: int, settings: DecodeSettings) -> Iterator[Run]:
    """Provide ``Run`` with ``processes`` workers that are ready to decode; 1 means this process itself.

    Workers are started fresh (spawn), because a fork would take HDF5's locks and threads along.
    """
    if processes == 1:
        prepare(settings)
        with memory_limited():
            yield lambda function, items: map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=start_worker, initargs=(settings,))
    try:
        yield lambda function, items: _ordered(pool, function, items, ahead=3 * processes)
    finally:
        pool.shutdown(cancel_futures=True)


def _ordered(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """Yield results in order; at most ``ahead`` items are at work or done and waiting."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            with _interrupt_held_back():  # submit starts the workers
                waiting.append(pool.submit(function, item))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise CommandError(
            "a decoding process ended unexpectedly, perhaps for lack of memory\n"
            "try fewer --workers; with --workers 1 the file that does it can be found"
        ) from error


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Let a Ctrl-C wait until the block is done: a pool that is torn while it starts can't be shut down."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C never comes here
        yield
        return
    came: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *caught: came.append(caught))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
