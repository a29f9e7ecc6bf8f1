from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import os, signal, sys, time
from jobs.signals import StopRequestedError, StopSignals
signals = StopSignals()
told = []
"""


def run(code: str, *, send: signal.Signals | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; once it prints ``ready``, send it a signal."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", HEAD + code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if send:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(send)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, output, errors)


@pytest.mark.parametrize(("number", "warned"), [(signal.SIGUSR2, True), (signal.SIGTERM, False)])
def test_training_is_told_and_goes_on_to_its_step_edge(number: signal.Signals, warned: bool) -> None:
    result = run(
        "signals.install(deadline_s=60, interrupt=False)\nsignals.tell(lambda: told.append(1))\nprint('ready')\n"
        "while not told: time.sleep(0.01)\nprint(signals.warned)",
        send=number,
    )
    assert (result.returncode, result.stdout) == (0, f"{warned}\n"), result.stderr


def test_signal_before_the_training_is_there_is_kept_for_it() -> None:
    result = run(
        "signals.install(deadline_s=60, interrupt=False)\nos.kill(os.getpid(), signal.SIGUSR2)\n"
        "signals.tell(lambda: told.append(1))\nprint(told)"
    )
    assert result.stdout == "[1]\n", result.stderr


def test_work_that_saves_nothing_is_interrupted() -> None:
    result = run(
        "signals.install(deadline_s=60, interrupt=True)\n"
        "try:\n    print('ready')\n    time.sleep(60)\nexcept StopRequestedError: print('interrupted')",
        send=signal.SIGTERM,
    )
    assert result.stdout == "interrupted\n", result.stderr


def test_work_that_is_over_is_not_interrupted() -> None:
    result = run(
        "signals.install(deadline_s=60, interrupt=True)\nsignals.interrupt_nothing()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.1)\nprint('ended')"
    )
    assert (result.returncode, result.stdout) == (0, "ended\n"), result.stderr


def test_process_that_does_not_end_shows_its_stacks_and_exits() -> None:
    began = time.monotonic()
    result = run(
        "signals.install(deadline_s=1, interrupt=False, on_deadline=lambda: print('told the cluster'))\n"
        "def stuck():\n    while True: time.sleep(1)\nprint('ready')\nstuck()",
        send=signal.SIGUSR2,
    )
    assert result.returncode == 1
    assert result.stdout == "told the cluster\n"
    assert "in stuck" in result.stderr
    assert time.monotonic() - began >= 1
