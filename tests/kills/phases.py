"""Moments of a training at which it can be made to die, in the process that is to be killed.

Each phase wraps one function of the product, as it is named in the module that calls it, and sends SIGKILL to this
process before, in the middle of, or after a chosen call of it.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Call = Callable[..., Any]

VARIABLE = "KILL_AT"
"""``PHASE:NUMBER``: die at that call of the phase's function, counted from 1."""

PHASE_FILE_VARIABLE = "KILL_LOG"
"""A file that a dying process appends its phase to, so that a test can count which ones were hit."""


PAUSE_VARIABLE = "KILL_PAUSE_S"
"""Seconds to sleep at each step's edge."""


class Phase(NamedTuple):
    """Where a process dies."""

    module: str
    name: str
    before: bool
    once: bool = False
    """Comes once in an attempt."""


LOOP, CHECKPOINT, STATE = "vqvae_dist.training.loop", "vqvae_dist.training.checkpoint", "vqvae_dist.training.state"

PHASES = {
    "opening the run": Phase("vqvae_dist.training.session", "write_sealed", before=True, once=True),
    "opened the run": Phase("vqvae_dist.training.session", "write_sealed", before=False, once=True),
    "restoring": Phase(STATE, "load_parts", before=True, once=True),
    "noted which rows count": Phase(LOOP, "write_summary", before=False),
    "cutting metrics": Phase("vqvae_dist.training.tracking", "cut_after", before=False, once=True),
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
    "writing the summary": Phase(LOOP, "write_summary", before=True),
}


def arm() -> None:
    """Make the main process die as KILL_AT says, or step slowly as KILL_PAUSE_S says, if they say so."""
    if os.environ.get("RANK", "0") != "0":
        return
    if PAUSE_VARIABLE in os.environ:
        seconds = float(os.environ[PAUSE_VARIABLE])
        _replace(Phase(LOOP, "Loop.step_edge", before=True), lambda edge: _after(seconds, edge))
    if VARIABLE in os.environ:
        phase, _, number = os.environ[VARIABLE].rpartition(":")
        _replace(PHASES[phase], lambda call: _dying(call, PHASES[phase], phase, int(number)))


def _replace(phase: Phase, wrap: Callable[[Call], Call]) -> None:
    *owners, name = phase.name.split(".")
    owner: Any = importlib.import_module(phase.module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, wrap(getattr(owner, name)))


def _after(seconds: float, original: Call) -> Call:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return original(*args, **kwargs)

    return wrapped


def _dying(original: Call, phase: Phase, label: str, number: int) -> Call:
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

    return wrapped


def die(label: str) -> None:
    """Note the phase and kill this process, as a node that loses power would."""
    with Path(os.environ[PHASE_FILE_VARIABLE]).open("a") as file:
        file.write(f"{label}\n")
    os.kill(os.getpid(), signal.SIGKILL)
