"""Two processes that train together beside two that train alone, on a core each."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.machine import free_port
from benchmarks.speed.row import Options, Row
from benchmarks.speed.stages import packed_phantoms
from vqvae_dist.json_files import read_json

STEPS, SHARE = 60, 4
SETTINGS = ("--model.hidden", "64", "--schedule.log-every", "10", "--schedule.validate-every", "1000",
            "--schedule.image-every", "1000", "--schedule.checkpoint-every", "1000", "--precision.mixed", "no",
            "--precision.compile", "off", "--data.crop", "128", "--tracking.mode", "disabled")  # fmt: skip


def rows(options: Options) -> list[Row]:
    """Slices a second of both ways."""
    data = packed_phantoms(options.work, subjects=12, slices=8, size=256)
    alone = sum(train(data, options.work, [{}, {}], batch=SHARE))
    port = free_port()
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} for rank in range(2)]  # fmt: skip
    (together,) = train(data, options.work, ranks, batch=2 * SHARE)
    name = "2 processes, gloo, 128-pixel crops, hidden 64"
    return [Row(name, together, "slices/s", "2 single processes side by side", alone, together / alone, ">= 0.9")]


def train(data: Path, work: Path, environments: list[dict[str, str]], *, batch: int) -> list[float]:
    """Start a training for each environment, a core each; the speed that each run's summary.json gives."""
    together = "RANK" in environments[0]
    runs = [work / ("together" if together else f"alone_{number}") for number in range(len(environments))]
    cores = sorted(os.sched_getaffinity(0))
    started = []
    for number, (run, variables) in enumerate(zip(runs, environments, strict=True)):
        words = ["-m", "vqvae_dist", "train-vqvae", "--preset", "full_resolution", "--data.path", str(data)]
        words += [
            "--output-dir",
            str(run),
            "--schedule.steps",
            str(STEPS),
            "--schedule.batch-size",
            str(batch),
            *SETTINGS,
        ]
        core = cores[number % len(cores)]
        started.append(
            subprocess.Popen(
                [sys.executable, *words],
                env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | variables,
                stdout=subprocess.DEVNULL,
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
            )
        )
    for process in started:
        if process.wait():
            raise RuntimeError(f"a training ended with {process.returncode}")
    return [float(read_json(run / "summary.json")["slices_per_second"]) for run in ([runs[0]] if together else runs)]
