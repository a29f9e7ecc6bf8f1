"""A process that hangs ends the run soon, with stacks to look at, and the run goes on from its checkpoint."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.kills.harness import CASES, Kill, arguments_of, differences, run_through
from tests.processes import command, start
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training.heartbeat import HUNG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CASE = CASES["vqvae, 2 processes, accumulation"]
TIMEOUT_S = 4


def stop_at_a_step(
    run: RunFolder, processes: list[BaseProcess], rank: int, by: signal.Signals = signal.SIGSTOP
) -> None:
    """Stop a process in the middle of the training."""
    while not len(run.read_metrics()) >= 5:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    pid = processes[rank].pid
    assert pid
    os.kill(pid, by)


def slow(arguments: list[str]) -> None:
    """The command, with steps that take long enough to be stopped in."""
    from vqvae_dist.training.loop import Loop

    original = Loop.step_edge

    def step_edge(self: Loop, report: Any) -> None:
        time.sleep(0.2)
        original(self, report)

    pytest.MonkeyPatch().setattr(Loop, "step_edge", step_edge)
    command(arguments)


@pytest.mark.parametrize("rank", [0, 1])
def test_others_end_and_the_run_goes_on_where_it_was(tmp_path: Path, packed: Path, rank: int) -> None:
    run_through(CASE, packed, tmp_path / "unbroken", [])
    folder, log = tmp_path / "hung", tmp_path / "log"
    folder.mkdir()
    run = RunFolder(folder / "run")
    words = [*arguments_of(CASE, packed, run.path), "--runtime.hang-timeout-s", str(TIMEOUT_S)]
    processes = start(slow, words, log=log, processes=2)
    stop_at_a_step(run, processes, rank)
    began = time.monotonic()
    processes[1 - rank].join(60)
    assert processes[1 - rank].exitcode == HUNG, log.read_text()[-3000:]
    assert TIMEOUT_S - 1 <= time.monotonic() - began < TIMEOUT_S + 30
    processes[rank].kill()
    processes[rank].join()
    assert f"process {rank} hangs: no sign of life for {TIMEOUT_S} s" in log.read_text()
    stacks = (run.path / "stacks" / f"rank{1 - rank}.txt").read_text()
    assert "in train_step" in stacks, stacks
    assert run_through(CASE, packed, folder, []) == []
    assert differences(tmp_path / "unbroken" / "run", run.path) == []


def test_a_process_that_is_killed_is_no_hang(tmp_path: Path, packed: Path) -> None:
    """Whoever started the processes sees that; a heartbeat must not end the others in its own way meanwhile."""
    run_through(CASE, packed, tmp_path, [Kill(phase="after a step", call=5)])
    assert "hangs" not in (tmp_path / "log").read_text()
    assert not (tmp_path / "run" / "stacks").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_left_says_in_a_line_that_another_ended(tmp_path: Path, packed: Path, rank: int) -> None:
    run, log = RunFolder(tmp_path / "run"), tmp_path / "log"
    processes = start(slow, arguments_of(CASE, packed, run.path), log=log, processes=2)
    stop_at_a_step(run, processes, rank, signal.SIGKILL)
    processes[1 - rank].join(60)
    assert processes[1 - rank].exitcode == 1
    said = "another process of this training ended (see its own message)"
    assert log.read_text().splitlines()[-1] == f"error: {said}"
    if rank == 1:
        assert (run.read_summary() or {})["reason"] == said
