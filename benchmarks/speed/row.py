"""A row of the table, and how its figures are taken."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

GB = 1e9


class Row(NamedTuple):
    """One figure beside what it is held against."""

    name: str
    value: float
    unit: str
    peer: str
    """What it is held against: a public system, or the limit."""
    peer_value: float | None
    ratio: float | None
    """How many times better than the peer, or the share of the limit that is reached."""
    target: str


@dataclass(frozen=True)
class Options:
    """What every measurement is told."""

    device: str
    data: Path | None
    """Packed real slices; phantoms where there are none."""
    work: Path
    """A folder for files, emptied by whoever called."""
    quick: bool = False


def median_seconds(work: Callable[[], object], *, repeat: int, warm: int = 1, device: str = "cpu") -> float:
    """Median wall time of a call after ``warm`` calls that do not count."""
    times = []
    for number in range(warm + repeat):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if number >= warm:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


@dataclass
class Memory:
    """Bytes."""

    above: int = field(default=0)
    """Most that was held at a time above what was held before."""
    peak: int = field(default=0)
    """Most that the process, or the device, held."""


@contextmanager
def measured_memory(device: str) -> Iterator[Memory]:
    """Fill a Memory with what a block of code takes: of the process on CPU, of the allocator on CUDA."""
    memory = Memory()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield memory
        memory.peak = torch.cuda.max_memory_allocated()
    else:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that it is not used again unseen
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        before = _resident("VmRSS")
        yield memory
        memory.peak = _resident("VmHWM")
    memory.above = memory.peak - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
