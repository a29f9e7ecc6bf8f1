"""Decoding in several processes, and Ctrl-C while they start."""

import signal
import threading
from pathlib import Path

import pytest

from data_tools.decode import DecodeSettings
from data_tools.workers import decoding


@pytest.fixture
def settings(tmp_path: Path) -> DecodeSettings:
    return DecodeSettings(tmp_path, "auto", 0, None, 0.01, "none")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(settings: DecodeSettings, processes: int) -> None:
    with decoding(processes, settings) as run:
        assert list(run(abs, range(-20, 0))) == list(range(20, 0, -1))


def test_ctrl_c_while_the_workers_start_ends_them_all(
    settings: DecodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if "ExecutorManager" in type(thread).__name__:
            signal.raise_signal(signal.SIGINT)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), decoding(2, settings) as run:
        list(run(abs, [1]))
