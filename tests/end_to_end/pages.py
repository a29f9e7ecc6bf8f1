"""Runs the commands that a page of the documentation shows, as they stand, only with sizes made small."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

SMALLER = {
    "train-vqvae": [
        "--schedule.steps", "6", "--model.quantizer.init-after", "0", "--model.hidden", "16", "--data.crop", "32",
    ],
    "train-pixelcnn": ["--schedule.steps", "6", "--model.layers", "2", "--model.hidden", "16"],
    "generate": ["--overwrite"],
    "evaluate": [],
}  # fmt: skip
"""What is added to a command so that it ends in seconds; the last value of a flag counts."""

LAUNCHERS = ("torchrun", "accelerate")
"""Programs that start several processes."""


def commands(page: Path) -> list[str]:
    """The indented command lines of a page, continued lines put together."""
    text = page.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [line for line in lines if re.match(r"(python|pip|make|cp|torchrun|accelerate) ", line)]


def programs(page: Path) -> list[str]:
    """The Python programs of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def run(line: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of a page in ``folder``, made small; return what it printed, and show it if it fails."""
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
    return call(words, folder, environment)


def call(words: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program in ``folder`` without W&B, unless ``environment`` says otherwise."""
    plain = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**plain, **(environment or {})}, check=False
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout


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
