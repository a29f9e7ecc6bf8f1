"""A sweep of a thousand runs on the Slurm of slurm/one_machine: planned, submitted, shown and cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.speed.row import Options, Row
from benchmarks.speed.stages import packed_phantoms

MEMBERS = 1000


def rows(options: Options) -> list[Row]:
    """Seconds of the commands, calls of Slurm's commands, and files."""
    conf = slurm_conf()
    work = options.work / "sweep"
    work.mkdir(exist_ok=True)
    data = packed_phantoms(options.work, subjects=6, slices=4, size=64)
    write_files(work, data)
    calls = work / "calls"
    environment = os.environ | {"SLURM_CONF": conf, "PATH": counted_programs(work, calls)}

    def jobs(*words: str) -> float:
        began = time.perf_counter()
        command = [sys.executable, "-m", "jobs", *words, "--root", str(work / "runs")]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began

    submitting = jobs("submit", str(work / "thousand.toml"), "--profile", str(work / "profile.toml"))
    try:
        files = sum(len(names) for _, _, names in os.walk(work / "runs" / "thousand"))
        sbatch = calls.read_text().split().count("sbatch")
        calls.write_text("")
        showing = min(jobs("status", "thousand", "--json") for _ in range(3))
        asked = calls.read_text().split()
    finally:
        jobs("cancel", "thousand")
    name = f"sweep of {MEMBERS} runs"
    return [
        Row(f"{name}: planned and submitted", submitting, "s", "-", None, None, "< 5"),
        Row(f"{name}: sbatch calls", sbatch, "", "-", None, None, "ceil(1000 / MaxArraySize)"),
        Row(f"{name}: files a run before it starts", files / MEMBERS, "", "-", None, None, "<= 5"),
        Row(f"{name}: status", showing, "s", "-", None, None, "< 1"),
        Row(f"{name}: accounting queries of status", asked.count("sacct") / 3, "", "-", None, None, "<= 1"),
    ]


def slurm_conf() -> str:
    """Of the cluster that slurm/one_machine/start.sh started."""
    file = ROOT / "slurm" / "one_machine" / "env.sh"
    if not file.is_file():
        raise RuntimeError("no Slurm was started (slurm/one_machine/start.sh)")
    command = ["bash", "-uc", f"source {str(file)!r}; sinfo -h >/dev/null && echo $SLURM_CONF"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError("the Slurm of slurm/one_machine does not answer (slurm/one_machine/start.sh --repair)")
    return answer.stdout.strip()


def write_files(work: Path, data: Path) -> None:
    """The sweep, and a profile whose jobs do not start."""
    settings: dict[str, Any] = {"data.path": str(data), "schedule.steps": 20}
    lines = ['name = "thousand"', 'stage = "train-vqvae"', 'base = "smoke"', "[set]"]
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in settings.items()]
    rates = ", ".join(f"{number}e-6" for number in range(1, MEMBERS + 1))
    (work / "thousand.toml").write_text("\n".join([*lines, "[grid]", f'"optim.lr" = [{rates}]', ""]))
    profile = ['executor = "slurm"', 'slurm_conf = "auto"', 'partition = "low"', 'sbatch = {begin = "now+1hour"}']
    (work / "profile.toml").write_text("\n".join([*profile, ""]))


def counted_programs(work: Path, calls: Path) -> str:
    """A PATH on which sbatch and sacct are the real ones, and each call is noted."""
    folder = work / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("sbatch", "sacct", "squeue"):
        file = folder / name
        file.write_text(f'#!/bin/bash\necho {name} >> "{calls}"\nPATH="${{PATH#*:}}" exec {name} "$@"\n')
        file.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
