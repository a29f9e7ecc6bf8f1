"""A sweep as a user runs it on a laptop: real trainings through submitit, stopped by Ctrl-C and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.sweep_files import write_sweep_file
from vqvae_dist.data.codes import CodesReader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]

REST = """
"schedule.log_every" = 2
"schedule.validate_every" = 20
"schedule.checkpoint_every" = 20
"tracking.mode" = "disabled"
[grid]
"optim.lr" = [2e-3, 1e-5]
[pipeline]
then = ["extract-codes", "train-pixelcnn", "generate", "report"]
[pipeline.train-pixelcnn]
"schedule.steps" = 4
"model.layers" = 3
"model.hidden" = 16
"tracking.mode" = "disabled"
[pipeline.generate]
"num-samples" = 2
"""


def jobs(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a Ctrl-C of ours goes to all of its process group, as a terminal's does
    )


def status(root: Path) -> list[dict[str, Any]]:
    answer = jobs("status", "trial", "--root", root, "--json").communicate(timeout=60)[0]
    rows: list[dict[str, Any]] = json.loads(answer)
    return rows


def test_sweep_stopped_by_ctrl_c_goes_on_to_its_report_and_twice_adds_nothing(tmp_path: Path, packed: Path) -> None:
    root, file = tmp_path / "runs", write_sweep_file(tmp_path, packed, REST, steps=80)
    command = ("submit", file, "--root", root, "--profile", "local")
    first = jobs(*command)
    deadline = time.monotonic() + 300
    while not any((root / "trial").glob("runs/*/metrics.jsonl")):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGINT)
    printed = first.communicate(timeout=120)[0]
    assert first.returncode == 130, printed
    rows = status(root)
    assert {row["state"] for row in rows} <= {"pending", "completed"}, rows

    second = jobs(*command)
    printed = second.communicate(timeout=600)[0]
    assert second.returncode == 0, printed
    rows = status(root)
    assert [row["state"] for row in rows] == ["completed"] * 6
    assert [row["stage"] for row in rows[2:]] == ["extract-codes", "train-pixelcnn", "generate", "report"]
    best = json.loads((root / "trial" / "best.json").read_text())
    assert best["value"] == max(row["best"]["value"] for row in rows[:2])
    assert (root / "trial" / "pipeline" / best["choice"] / "Pic" / "PixelCNN_generate.jpg").is_file()
    assert best["choice"] in (root / "trial" / "report.html").read_text()
    assert printed.endswith(f"best: {root / 'trial' / best['run']}\nreport: {root / 'trial' / 'report.html'}\n")
    (snapshot,) = (root / "trial").glob("code/*/snapshot.json")
    attempts = json.loads((root / "trial" / best["run"] / "config.json").read_text())["attempts"]
    assert {attempt["code"] for attempt in attempts} == {json.loads(snapshot.read_text())["commit"]}

    events = (root / "trial" / "events.jsonl").read_bytes()
    third = jobs(*command)
    assert third.wait(timeout=60) == 0
    assert (root / "trial" / "events.jsonl").read_bytes() == events

    edited = REST.replace('"model.layers" = 3', '"model.layers" = 2') + "[pipeline.extract-codes]\nviews = 2\n"
    write_sweep_file(tmp_path, packed, edited.replace('"num-samples" = 2', '"num-samples" = 3'), steps=80)
    fourth = jobs(*command)
    printed = fourth.communicate(timeout=600)[0]
    assert fourth.returncode == 0, printed
    made = root / "trial" / "pipeline" / best["choice"]
    codes = CodesReader(made / "codes.h5").attributes
    prior = json.loads((made / "prior" / "config.json").read_text())
    assert codes["views"] == 2
    assert prior["data_digest"] == codes["digest"], "trained on the codes that are there"
    assert prior["settings"]["model"]["layers"] == 2
    assert len(list((made / "Pic").glob("PixelCNN_generate/*.png"))) == 3


def test_detached_sweep_goes_on_in_the_background_and_can_be_cancelled(tmp_path: Path, packed: Path) -> None:
    root, file = tmp_path / "runs", write_sweep_file(tmp_path, packed, REST, steps=5000)
    submit = jobs("submit", file, "--root", root, "--profile", "local", "--detach")
    assert "goes on in the background" in submit.communicate(timeout=60)[0]
    deadline = time.monotonic() + 300
    while not any(row["step"] for row in status(root)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert jobs("cancel", "trial", "--root", root).wait(timeout=60) == 0
    while "6 cancelled" not in (root / "trial" / "submit.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert {row["state"] for row in status(root)} == {"cancelled"}
