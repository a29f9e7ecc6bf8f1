"""Runs that W&B's client tracked without a network, for tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from jobs.wandb_files import find_attempts
from jobs.wandb_merge import merge_rows
from tests.wandb_server.client import Client, await_end


def log_of(run: Path) -> Path:
    """The newest W&B log of a run."""
    return max(run.glob("wandb/*run-*/run-*.wandb"), key=lambda path: path.parent.name)


def train_and_kill(client: Client, run: Path, *, logged: int, **options: Any) -> None:
    """Train offline, and kill the training once the client's log has a step; it goes on a little further."""
    process = client.start(run, mode="offline", steps=logged + 7, hang=True, **options)
    attempts = 0
    while not attempts or logged not in merge_rows(find_attempts(run / "wandb").popitem()[1][-1:], []):
        assert process.poll() is None
        time.sleep(0.05)
        attempts = len(list(run.glob("wandb/offline-run-*")))
    process.kill()
    await_end(process)


def let_rest(run: Path) -> None:
    """Make a run's logs old, as if the killed process had been gone for an hour."""
    for path in run.glob("wandb/*run-*/run-*.wandb"):
        os.utime(path, (time.time() - 3600,) * 2)
