"""Sweep files and folders for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs.config import Profile
from jobs.folder import Plan, SweepFolder, make_plan, write_sweep
from jobs.sweep import read_sweep
from vqvae_dist.files import write_sealed

GRID = """
[grid]
"optim.lr" = [1e-2, 1e-3]
"optim.milestones" = [[10], [20, 30]]
"""


def write_sweep_file(folder: Path, data: Path, rest: str = GRID, *, head: str = "", steps: int = 40) -> Path:
    """A sweep of short runs; ``rest`` holds the tables, ``head`` more keys before them."""
    file = folder / "sweep.toml"
    file.write_text(
        f'name = "trial"\nbase = "smoke"\n{head}\n'
        f'[set]\n"data.path" = {json.dumps(str(data))}\n"schedule.steps" = {steps}\n{rest}'
    )
    return file


def make_sweep(
    folder: Path, data: Path, rest: str = GRID, *, profile: Profile | None = None, steps: int = 40
) -> tuple[SweepFolder, Plan]:
    """A sweep's folder, ready to be run."""
    sweep = read_sweep(write_sweep_file(folder, data, rest, steps=steps), wandb_mode="disabled")
    target = SweepFolder(folder / "runs" / sweep.name)
    plan = make_plan(sweep, profile or Profile(executor="local", array_parallelism=1), None)
    write_sweep(target, sweep, plan)
    return target, plan


def finish_run(folder: SweepFolder, unit: str, *, value: float | None = 0.5, state: str = "completed") -> None:
    """Leave what a training leaves."""
    run = folder.run(unit)
    run.model.mkdir(parents=True, exist_ok=True)
    (run.model / "model.safetensors").write_bytes(unit.encode())
    best = None if value is None else {"metric": "validate/ssim_foreground", "value": value, "step": 40}
    summary = {"state": state, "step": 40, "steps": 40, "seconds": 8.0, "slices_per_second": 25.0, "best": best}
    write_sealed(run.summary_file, summary)
    rows: list[dict[str, Any]] = [
        {"global_step": 20, "train/loss": 0.4},
        {"global_step": 40, "train/loss": 0.2, "validate/ssim_foreground": value},
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
