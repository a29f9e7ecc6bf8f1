"""`jobs sync`, between a W&B server and the runs of a sweep."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wandb_server.client import REPOSITORY, Client, clean_environment

Sync = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "a sweep [1]"
    (folder / "runs").mkdir(parents=True)
    return folder


@pytest.fixture
def run_sync(client: Client, sweep: Path) -> Sync:
    """Runs jobs.sync in a process of its own, as its environment is a client's."""
    program = (
        "import sys; from pathlib import Path; from data_tools.console import run_command; from jobs.sync import sync; "
        "sys.exit(run_command(lambda arguments: sync(Path(arguments[0]), live='--live' in arguments)))"
    )

    def start(*flags: str, folder: Path = sweep) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, str(folder), *flags],
            cwd=REPOSITORY,
            env=clean_environment() | client.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return start
