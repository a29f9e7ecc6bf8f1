from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools.console import CommandError, UsageError
from jobs.dashboard import fill, fill_run, main
from jobs.wandb_upload import find_runs
from tests.wandb_server.client import Client
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
    with pytest.raises(UsageError, match="no such folder; give that of a sweep or of a run"):
        fill(tmp_path / "elsewhere")


def test_one_folder_is_asked_for() -> None:
    with pytest.raises(UsageError, match="usage"):
        main([])


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "python -m jobs.dashboard" in capsys.readouterr().out


def test_dashboard_imports_trackio_only_when_it_fills() -> None:
    assert "trackio" not in sys.modules
