"""Trainings in processes of their own, as torchrun would start them.

A server that has imported torch once forks them, so that a process starts in a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.machine import free_port

PRELOADED = ["vqvae_dist.cli", "vqvae_dist.training.vqvae", "vqvae_dist.training.pixelcnn", "vqvae_dist.training.rerun"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def start(
    function: Callable[..., Any],
    *arguments: Any,
    log: Path,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[BaseProcess]:
    """Start ``function(*arguments)`` in ``processes`` ranks; what they print is appended to ``log``."""
    started: list[BaseProcess] = []
    port = free_port()
    for rank in range(processes):
        values = {"OMP_NUM_THREADS": "1", **(environment or {})}
        if processes > 1:
            values |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{processes}"}
            values |= {"LOCAL_WORLD_SIZE": f"{processes}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        process = _context.Process(target=_enter, args=(function, arguments, values, str(log)))
        process.start()
        started.append(process)
    return started


def finish(started: Sequence[BaseProcess], *, log: Path, timeout_s: float = 240) -> list[int]:
    """Wait for processes and return their exit statuses; kill what takes too long."""
    for process in started:
        process.join(timeout_s)
    hanging = [process for process in started if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, f"{len(hanging)} processes did not end:\n{log.read_text()[-3000:]}"
    return [process.exitcode or 0 for process in started]


def run(function: Callable[..., Any], *arguments: Any, log: Path, processes: int = 1, **options: Any) -> str:
    """Run ``function(*arguments)`` in every rank to a good end; return what was printed."""
    statuses = finish(start(function, *arguments, log=log, processes=processes, **options), log=log)
    text = log.read_text()
    assert statuses == [0] * processes, f"exit statuses {statuses}:\n{text[-3000:]}"
    return text


def command(arguments: Sequence[str]) -> None:
    """What ``python -m vqvae_dist ARGUMENTS`` does."""
    from vqvae_dist.cli import main

    sys.exit(main(list(arguments)))


def _enter(function: Callable[..., Any], arguments: tuple[Any, ...], environment: Mapping[str, str], log: str) -> None:
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    import torch

    torch.set_num_threads(1)
    function(*arguments)
