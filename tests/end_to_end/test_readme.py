"""Every command of README.md is run, in its order, on phantoms; only sizes are made small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.pages import LAUNCHERS, ROOT, commands, make_small, run

README = ROOT / "README.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ELSEWHERE = {
    "make demo": "test_demo.py",
    "python -m venv .venv && . .venv/bin/activate": "test_install.py",
    "pip install --constraint constraints.txt .": "test_install.py, with libraries that are there",
}
"""Commands that other tests run."""


def test_readme_has_the_commands_of_the_main_job() -> None:
    named = " ".join(commands(README))
    for word in (
        "pack",
        "train-vqvae",
        "evaluate",
        "extract-codes",
        "train-pixelcnn",
        "generate",
        "submit",
        "torchrun",
    ):
        assert word in named


def test_every_command_works(tmp_path: Path) -> None:
    run("python -m data_tools phantom my_slices --subjects 12 --slices 3 --size 48", tmp_path)
    shutil.copytree(ROOT / "docs/sweeps", tmp_path / "docs/sweeps")
    for line in commands(README):
        if line not in ELSEWHERE:
            run(line, tmp_path)
        if line.startswith("cp "):
            make_small(tmp_path / "lr_milestones.toml")
    for launcher in LAUNCHERS:
        attempts = json.loads((tmp_path / "runs" / launcher / "config.json").read_text())["attempts"]
        assert [attempt["processes"] for attempt in attempts] == [2]
    assert (tmp_path / "Pic/PixelCNN_generate.jpg").is_file()
    assert (tmp_path / "runs/lr-milestones/report.html").is_file()
    assert len(list(tmp_path.glob("runs/lr-milestones/pipeline/*/Pic/PixelCNN_generate.jpg"))) == 1
