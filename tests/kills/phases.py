"""Moments of a training at which it can be made to die, in the process that is to be killed.

Each phase wraps one function of the product, as it is named in the module that calls it, and sends SIGKILL to this
process before, in the middle of, or after a chosen call of it.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "KILL_AT"
"""``PHASE:NUMBER``: die at that call of the phase's function, counted from 1."""

PHASE_FILE_VARIABLE = "KILL_LOG"
"""A file that a dying process appends its phase to, so that a test can count which ones were hit."""


class Phase(NamedTuple):
    """Where a process dies."""

    module: str
    name: str
    before: bool
    stage: str = ""
    """Only for trainings of this stage."""


LOOP, CHECKPOINT, STATE = "vqvae_dist.training.loop", "vqvae_dist.training.checkpoint", "vqvae_dist.training.state"

PHASES = {
    "opening the run": Phase("vqvae_dist.training.session", "write_json", before=True),
    "opened the run": Phase("vqvae_dist.training.session", "write_json", before=False),
    "restoring": Phase(STATE, "load_parts", before=True),
    "cutting metrics": Phase("vqvae_dist.training.tracking", "cut_after", before=False),
    "before a step": Phase(LOOP, "Loop.count_skipped", before=True),
    "after a step": Phase(LOOP, "Loop.step_edge", before=True),
    "validating": Phase(LOOP, "Loop.judge", before=True),
    "logged a row": Phase("vqvae_dist.training.tracking", "Tracker.log", before=False),
    "drawing": Phase(LOOP, "save_picture", before=False),
    "saving: tensors": Phase(CHECKPOINT, "save", before=False),
    "saving: manifest": Phase(CHECKPOINT, "write_json", before=True),
    "saving: before the rename": Phase(CHECKPOINT, "write_checkpoint", before=False),
    "saving: renamed, not yet latest": Phase(CHECKPOINT, "fsync_folder", before=True),
    "saving: latest, not yet best": Phase(CHECKPOINT, "write_file", before=False),
    "saving: deleting old ones": Phase(CHECKPOINT, "Checkpoints._prune", before=True),
    "saved, not yet exported": Phase(LOOP, "export_best", before=True),
    "exported, no summary yet": Phase(LOOP, "export_best", before=False),
    "writing the summary": Phase(LOOP, "write_json", before=True),
}


def arm() -> None:
    """Make the main process die as KILL_AT says, if it says so."""
    if VARIABLE not in os.environ or os.environ.get("RANK", "0") != "0":
        return
    phase, _, number = os.environ[VARIABLE].rpartition(":")
    _wrap(PHASES[phase], phase, int(number))


def _wrap(phase: Phase, label: str, number: int) -> None:
    *owners, name = phase.name.split(".")
    owner: Any = importlib.import_module(phase.module)
    for part in owners:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and phase.before:
            die(label)
        result = original(*args, **kwargs)
        if calls == number:
            die(label)
        return result

    setattr(owner, name, wrapped)


def die(label: str) -> None:
    """Note the phase and kill this process, as a node that loses power would."""
    with Path(os.environ[PHASE_FILE_VARIABLE]).open("a") as file:
        file.write(f"{label}\n")
    os.kill(os.getpid(), signal.SIGKILL)
