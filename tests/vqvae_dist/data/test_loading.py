from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from tests.processes import start
from vqvae_dist.config import DataConfig
from vqvae_dist.data import loading
from vqvae_dist.data.loading import WORKERS_A_CORE, read_ahead
from vqvae_dist.data.slices import TrainingSlices


def slices_of(path: str) -> TrainingSlices:
    return TrainingSlices(path, DataConfig(path=path, crop=24), seed=0, batch_size=4, rank=0, share=4)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_reading_ahead_gives_the_batches_in_order(packed: Path, workers: int) -> None:
    slices = slices_of(str(packed))
    read = list(read_ahead(slices, range(5, 12), workers=workers))
    assert len(read) == 7
    for step, batch in zip(range(5, 12), read, strict=True):
        assert torch.equal(batch.images, slices[step].images)
        assert torch.equal(batch.keys, slices[step].keys)


def test_workers_are_bounded_by_the_cores(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loader, asked = Mock(return_value=[7]), 100_000
    monkeypatch.setattr(loading, "DataLoader", loader)
    most = WORKERS_A_CORE * len(os.sched_getaffinity(0))
    assert list(read_ahead(Broken(), range(1), workers=asked)) == [7]
    assert loader.call_args.kwargs["num_workers"] == most
    assert f"data.workers 100000: {most} are started" in capsys.readouterr().err
    assert list(read_ahead(Broken(), range(1), workers=most)) == [7]
    assert capsys.readouterr().err == ""


def test_no_steps_give_no_batches(packed: Path) -> None:
    assert list(read_ahead(slices_of(str(packed)), range(3, 3), workers=0)) == []


class Broken:
    def __getitem__(self, step: int) -> int:
        if step == 2:
            raise OSError("the disk is gone")
        return step


def test_an_error_in_the_reader_reaches_the_training() -> None:
    batches = read_ahead(Broken(), range(5), workers=0)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


class Stopped:
    """A source whose worker is told to stop while it starts, as by Ctrl-C or Slurm, which reach every process."""

    def __reduce__(self) -> tuple[Callable[[], Stopped], tuple[()]]:
        return arrive_at_worker, ()

    def __getitem__(self, step: int) -> int:
        return step


def arrive_at_worker() -> Stopped:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    return Stopped()


@pytest.mark.slow
def test_a_stop_while_workers_start_does_not_end_them() -> None:
    assert list(read_ahead(Stopped(), range(5), workers=2)) == list(range(5))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def read_and_die(path: str, pids: str) -> None:
    """Start two workers, say who they are, and die as from SIGKILL."""
    batches = read_ahead(slices_of(path), range(100), workers=2)
    next(batches)
    Path(pids).write_text(" ".join(str(child.pid) for child in multiprocessing.active_children()))
    os.kill(os.getpid(), 9)


@pytest.mark.slow
def test_workers_end_when_the_training_is_killed(packed: Path, tmp_path: Path) -> None:
    (process,) = start(read_and_die, str(packed), str(tmp_path / "pids"), log=tmp_path / "log")
    process.join(60)
    assert process.exitcode == -9, (tmp_path / "log").read_text()
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while (alive := [pid for pid in pids if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
