"""Programs that talk to the server: fake trainings in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Ended:
    """A program that has ended."""

    code: int
    output: str
    errors: str

    @property
    def timings(self) -> dict[str, float]:
        """What a training measured of itself, in seconds: ``start``, ``slowest_step``, ``finish``."""
        timings: dict[str, float] = json.loads(self.output.splitlines()[-1])
        return timings


@dataclass
class Client:
    """Starts trainings in a clean environment: of the caller's WANDB_ variables none is left."""

    environment: dict[str, str]

    def train(self, run: Path, **options: Any) -> Ended:
        """Run a fake training to its end; ``options`` as in fake_training.Options."""
        return await_end(self.start(run, **options))

    def start(self, run: Path, **options: Any) -> subprocess.Popen[str]:
        """Start a fake training."""
        flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.wandb_server.fake_training", str(run), *flags],
            cwd=REPOSITORY,
            env=clean_environment() | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def await_end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a program, for a bounded time."""
    output, errors = process.communicate(timeout=120)
    return Ended(process.returncode, output, errors)


def clean_environment() -> dict[str, str]:
    """The environment without what would steer the W&B client."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WANDB_") and key != "NETRC"}
