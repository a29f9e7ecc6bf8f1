from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools.console import CommandError
from jobs.dashboard import MARK, fill, fill_run
from jobs.wandb_upload import find_runs
from tests.wandb_server.client import REPOSITORY, Client
from tests.wandb_server.fake_training import RUN_ID, gray


class Recorder:
    """Takes what trackio would."""

    Image = Path

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self.rows: dict[int, dict[str, Any]] = {}
        self.finished = False

    def init(self, **about: Any) -> Recorder:
        self.about = about
        return self

    def log(self, values: dict[str, Any], *, step: int) -> None:
        self.rows[step] = values

    def finish(self) -> None:
        self.finished = True


FAKE = """
import os
from pathlib import Path
Image = Path
store = Path(os.environ["TRACKIO_DIR"])
def init(*, project, **about):
    (store / f"{project}.db").write_text("runs")
    return Run()
class Run:
    def log(self, values, *, step): pass
    def finish(self): pass
"""
"""A trackio that leaves one file."""


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    """A run folder that was tracked offline."""
    (tmp_path / "home").mkdir()
    run = tmp_path / "runs" / RUN_ID
    Client({"HOME": str(tmp_path / "home")}).train(run, steps=10, mode="offline")
    return run


def dashboard(run: Path, trackio: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with a library of this text."""
    (run.parent / "trackio.py").write_text(trackio)
    command = [sys.executable, "-m", "jobs", "dashboard", str(run)]
    environment = {"PYTHONPATH": f"{run.parent}:{REPOSITORY}", "PATH": ""}
    return subprocess.run(command, cwd=run, env=environment, capture_output=True, text=True, timeout=120)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_an_earlier_dashboard_stays_until_there_is_a_new_one(tracked: Path) -> None:
    before = files(tracked)
    done = dashboard(tracked, "raise ImportError('No module named trackio')")
    assert (done.returncode, files(tracked)) == (1, before)
    assert "pip install '.[dashboard]'" in done.stderr
    assert dashboard(tracked, FAKE).returncode == 0
    store = tracked / "trackio"
    (store / "old").touch()
    for broken in ("raise ImportError('No module named trackio')", f"{FAKE}\ndef init(**about): raise OSError('full')"):
        assert dashboard(tracked, broken).returncode == 1
        assert files(store) == [f"{RUN_ID}.db", MARK, "old"]
    done = dashboard(tracked, FAKE)
    assert f"TRACKIO_DIR={store} trackio show --project {RUN_ID}" in done.stdout
    assert files(store) == [f"{RUN_ID}.db", MARK]
    assert files(tracked) == sorted([*before, "trackio"])


@pytest.mark.slow
def test_a_folder_that_this_command_did_not_make_is_left_alone(tracked: Path) -> None:
    (tracked / "trackio").mkdir()
    (tracked / "trackio" / "mine.db").touch()
    done = dashboard(tracked, FAKE)
    assert done.returncode == 2
    assert "trackio was not made by this command; move it away" in done.stderr
    assert files(tracked / "trackio") == ["mine.db"]


@pytest.mark.slow
def test_runs_are_shown_with_their_settings_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    run = tmp_path / "runs" / RUN_ID
    Client({"HOME": str(tmp_path / "home")}).train(run, steps=20, mode="offline")
    recorder = Recorder()
    fill_run(recorder, next(find_runs(tmp_path)), "sweep")
    assert recorder.finished
    assert (recorder.about["project"], recorder.about["group"]) == ("sweep", "sweep")
    assert recorder.about["config"]["optim.milestones_str"] == "10-20"
    assert sorted(recorder.rows) == list(range(1, 21))
    assert recorder.rows[10]["train/loss"] == pytest.approx(0.1)
    assert np.array_equal(np.asarray(Image.open(recorder.rows[10]["images/validate"])), gray(10))
    assert not {"time", "_step", "_timestamp"} & set(recorder.rows[10])


def test_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nothing was tracked"):
        fill(tmp_path)


def test_dashboard_imports_trackio_only_when_it_fills() -> None:
    assert "trackio" not in sys.modules
