"""Reading ahead: batches of coming steps are prepared while one is trained on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from typing import Any, Protocol, TypeVar, cast

import torch
from torch.utils.data import DataLoader

from data_tools.console import warn

B = TypeVar("B", covariant=True)


STOPS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT, signal.SIGINT)
"""Signals that warn of a stop: the training process's business, and not its workers'."""


WORKERS_A_CORE = 4
"""More processes than this only take memory, some 200 MB each; what a run asks for may have been right elsewhere."""


class Steps(Protocol[B]):
    """Batches by step."""

    def __getitem__(self, step: int) -> B:
        """The batch of a step."""


def read_ahead(source: Steps[B], steps: range, *, workers: int) -> Iterator[B]:
    """Yield ``source[step]`` for each step, read ahead by ``workers`` processes, or by a thread for 0."""
    most = WORKERS_A_CORE * len(os.sched_getaffinity(0))
    if workers > most:
        warn(f"data.workers {workers}: {most} are started, {WORKERS_A_CORE} for each CPU core of this process")
    if workers := min(workers, most):
        loader: DataLoader[Any] = DataLoader(
            cast(Any, source),
            batch_size=None,
            sampler=cast(Sequence[int], steps),
            num_workers=workers,
            collate_fn=_as_it_is,
            multiprocessing_context="spawn",  # fork after threads may hang; a fork server outlives a killed training
            worker_init_fn=_quiet_worker,
            prefetch_factor=2,
        )
        with _held_back():
            batches = iter(loader)  # starts the workers
        yield from batches
        return
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        ahead = [pool.submit(source.__getitem__, step) for step in steps[:2]]
        for step in steps:
            ready = ahead.pop(0)
            if step + 2 * steps.step < steps.stop:
                ahead.append(pool.submit(source.__getitem__, step + 2 * steps.step))
            yield ready.result()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Let stops wait until the block is done; a process started in it holds them back until it ignores them."""
    resource_tracker.ensure_running()  # whose start lets them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_it_is(batch: Any) -> Any:
    return batch


def _quiet_worker(_: int) -> None:
    """One thread a worker; stops are the training process's business, its death is ours."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this worker once the training process is dead; torch's own watch only sees the server that forked it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
