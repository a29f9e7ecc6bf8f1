"""Sweeps on a real cluster, driven through the command line as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm.one_machine import Cluster, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 420
"""For something that is sure to come, on a busy machine where a run takes most of its time to import torch."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep file, and what to submit it with."""

    cluster: Cluster
    file: Path
    profile: str | Path
    root: Path
    checkout: Path = ROOT
    """Where the project's code is that submits."""

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def submit(self, *options: str) -> str:
        return self.jobs("submit", str(self.file), "--profile", str(self.profile), *options)

    def submit_and_train(self, *, until: int, first: int | None = None) -> list[str]:
        """Submit and wait until every one of the ``first`` members is past a step; return their jobs, in order."""
        self.submit()
        rows = self.members()[:first]
        self.wait(lambda: all(self.step(row["run_id"]) >= until for row in rows))
        return [row["job_id"] for row in rows]

    def jobs(self, *arguments: str) -> str:
        """``python -m jobs``, which has to succeed; returns what it printed."""
        result = self.attempt(*arguments)
        assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
        return result.stdout

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs", *arguments, "--root", str(self.root)]
        return subprocess.run(
            command,
            cwd=self.checkout,
            env=self.cluster.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def status(self) -> dict[str, Row]:
        """The rows of ``status --json``, by member or stage."""
        return {row["unit"]: row for row in json.loads(self.jobs("status", self.name, "--json"))}

    def members(self) -> list[Row]:
        """The members in the order of the array."""
        return [row for row in self.status().values() if row["stage"] == "train-vqvae"]

    def states(self) -> Counter[str]:
        return Counter(row["state"] for row in self.status().values())

    def wait(self, condition: Callable[[], bool] | None = None) -> None:
        """Wait for something, or until nothing of the sweep waits or runs."""
        wait_until(condition or self.has_ended, PATIENCE_S)

    def has_ended(self) -> bool:
        return not self.states().keys() & {"pending", "running", "requeued"}

    def events(self, kind: str) -> list[Row]:
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def metrics(self, run_id: str) -> list[Row]:
        file = self.folder / "runs" / run_id / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def step(self, run_id: str) -> int:
        """The newest step that a run has logged."""
        return max((row["global_step"] for row in self.metrics(run_id)), default=0)

    def weights(self, run_id: str) -> bytes:
        """The exported model, whose bytes depend on the weights alone."""
        return (self.folder / "runs" / run_id / "model" / "model.safetensors").read_bytes()

    def log(self) -> str:
        """What all jobs printed, for the message of a failed test."""
        return "\n".join(f"== {file.name}\n{file.read_text()[-2000:]}" for file in self.folder.glob("logs/*.out"))


def run_here(*arguments: str) -> None:
    """Run one of the project's commands on this machine."""
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)


SWEEP = """
name = "{name}"
stage = "train-vqvae"
base = "smoke"
[set]
"data.path" = {data}
"schedule.steps" = {steps}
"schedule.log_every" = 5
"schedule.checkpoint_every" = 10
"schedule.validate_every" = {steps}
"schedule.image_every" = {steps}
{rest}
"""

ONE = """
[grid]
"optim.lr" = [1e-3]
"""
"""A sweep of one member."""

PROFILE = """
executor = "slurm"
slurm_conf = "auto"
partition = "low"
nodes = {nodes}
gpus_per_node = {gpus}
array_parallelism = 4
signal_lead_s = 60
{rest}
[env]
GLOO_SOCKET_IFNAME = "lo"
"""


def write_sweep(
    cluster: Cluster, folder: Path, name: str, *, data: Path, rest: str, steps: int = 20, profile: str | Path
) -> Sweep:
    """A sweep of short runs on small slices; ``rest`` holds more settings, the grid and the pipeline."""
    file = folder / f"{name}.toml"
    file.write_text(SWEEP.format(name=name, data=json.dumps(str(data)), steps=steps, rest=rest))
    return Sweep(cluster, file, profile, folder / "runs")


def write_profile(folder: Path, *, nodes: int = 1, gpus: int = 1, rest: str = "mem_gb = 1.5") -> Path:
    """A profile like one_machine, which also runs over several nodes."""
    file = folder / f"profile{nodes}x{gpus}{abs(hash(rest))}.toml"
    file.write_text(PROFILE.format(nodes=nodes, gpus=gpus, rest=rest))
    return file
