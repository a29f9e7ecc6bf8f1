"""Whether what arrived over the wire is all that a fake training told its tracker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.wandb_server.fake_training import gray
from tests.wandb_server.store import StoredRun
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import flatten
from vqvae_dist.run_folder import RunFolder


def run_of(arrived: StoredRun, folders: Iterable[Path]) -> RunFolder:
    """The run folder, of several, whose run this is."""
    (folder,) = [folder for folder in folders if any(folder.glob(f"wandb/*run-*-{arrived.name}"))]
    return RunFolder(folder)


def faults(arrived: StoredRun, run: RunFolder, *, pictures: bool = True) -> list[str]:
    """What is missing or other than in metrics.jsonl: steps, values, settings, pixels of pictures.

    Without ``pictures``, those that a kill caught on their way may be missing; those that arrived are compared.
    """
    rows = run.read_metrics()
    steps = [row["global_step"] for row in rows]
    found = [] if arrived.steps == steps else [f"steps {arrived.steps} instead of {steps}"]
    sent = {row["global_step"]: row for row in arrived.rows if "global_step" in row}
    for row in rows:
        values = sent.get(row["global_step"], {})
        found += [
            f"step {row['global_step']}: {key} {values.get(key)} instead of {value}"
            for key, value in row.items()
            if values.get(key) != value
        ]
    found += [f"setting {key}" for key in flatten(VQVAEConfig()) if key not in arrived.config]
    arrived_pictures = arrived.column("images/validate")
    if pictures and sorted(arrived_pictures) != [step for step in steps if step % 10 == 0]:
        found.append(f"pictures of steps {sorted(arrived_pictures)}")
    found += [
        f"picture of step {step}"
        for step, media in arrived_pictures.items()
        if not np.array_equal(arrived.image(media["path"]), gray(step))
    ]
    return found
