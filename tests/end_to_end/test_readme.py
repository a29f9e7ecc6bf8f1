"""Every command of README.md is run, in its order, on phantoms; only sizes are made small."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ELSEWHERE = {
    "make demo": "test_demo.py",
    "python -m venv .venv && . .venv/bin/activate": "test_install.py",
    "pip install --constraint constraints.txt .": "test_install.py",
}
"""Commands that other tests run."""

SMALLER = {
    "train-vqvae": [
        "--schedule.steps",
        "6",
        "--model.quantizer.init-after",
        "0",
        "--model.hidden",
        "16",
        "--data.crop",
        "32",
    ],
    "train-pixelcnn": ["--schedule.steps", "6", "--model.layers", "2", "--model.hidden", "16"],
    "generate": ["--overwrite"],
}
"""What is added to a command so that it ends in seconds; the last value of a flag counts."""


LAUNCHERS = ("torchrun", "accelerate")
"""Programs that start several processes."""


def commands() -> list[str]:
    """The indented command lines of README.md, continued lines put together."""
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [line for line in lines if re.match(r"(python|pip|make|cp|torchrun|accelerate) ", line)]


def test_readme_has_the_commands_of_the_main_job() -> None:
    named = " ".join(commands())
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
    for line in commands():
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


def make_small(sweep: Path) -> None:
    """Cut the sizes of a sweep that was copied; where its data lie is left as it is."""
    text = re.sub(r'"schedule.steps" = \d+', '"schedule.steps" = 6', sweep.read_text())
    for table, command in (("[set]", "train-vqvae"), ("[pipeline.train-pixelcnn]", "train-pixelcnn")):
        flags = [flag.removeprefix("--").replace("-", "_") for flag in SMALLER[command]]
        settings = [f'"{key}" = {value}' for key, value in zip(flags[::2], flags[1::2], strict=True)]
        lines = [line for line in settings if "schedule.steps" not in line]
        assert table in text
        text = re.sub(rf"^{re.escape(table)}.*$", "\\n".join([table, *lines]), text, flags=re.MULTILINE)
    sweep.write_text(text)


def run(line: str, folder: Path) -> None:
    """Run a command of the README in ``folder``, made small, and show what it said if it fails."""
    small = line.replace("per-node 4", "per-node 2").replace("num_processes 4", "num_processes 2")
    words = shlex.split(small.replace(" …", ""))
    for name, added in SMALLER.items():
        if name in words and "…" not in line:
            words += added
    if "…" in line:  # continues another command's flags
        words += ["--data.path", "brain.h5", *SMALLER["train-vqvae"]]
    if words[0] in LAUNCHERS:
        words += ["--output-dir", f"runs/{words[0]}"]
    if words[0] != "cp":
        words[0] = str(BIN / words[0])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
