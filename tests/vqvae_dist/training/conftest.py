from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import command, finish, start
from tests.trainings import Settings, command_line, settings_of
from tests.vqvae_dist.training.parts import VALUES, parts_of
from vqvae_dist.run_folder import Attempt, Ownership, RunFolder
from vqvae_dist.training.checkpoint import Checkpoints


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    text: str


class Trainer:
    """Runs ``train-vqvae`` as a user does, on a tiny training of 8 steps."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.run = folder, data, RunFolder(folder / "run")
        self.calls = 0

    def arguments(self, changes: Settings | None, *flags: str) -> list[str]:
        """The command line with dotted ``changes``."""
        short = {"schedule.steps": 8, "schedule.validate_every": 4, "schedule.checkpoint_every": 2}
        settings = settings_of("train-vqvae", self.data, self.run.path, {**short, **(changes or {})})
        return [*command_line("train-vqvae", settings), *flags]

    def __call__(self, changes: Settings | None = None, *flags: str, processes: int = 1) -> Ended:
        """Run the command to its end."""
        return self.end(changes, *flags, target=command, processes=processes)

    def end(
        self, changes: Settings | None = None, *flags: str, target: Callable[..., None], processes: int = 1
    ) -> Ended:
        """Run ``target`` with the command line to its end."""
        self.calls += 1
        log = self.folder / f"log{self.calls}"
        started = start(target, self.arguments(changes, *flags), log=log, processes=processes)
        statuses = set(finish(started, log=log))
        assert len(statuses) == 1, log.read_text()
        return Ended(statuses.pop(), log.read_text())


@pytest.fixture
def trainer(tmp_path: Path, packed: Path) -> Trainer:
    """A tiny training in a folder of its own."""
    return Trainer(tmp_path, packed)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def checkpoints(run: RunFolder) -> Checkpoints:
    return Checkpoints(run, keep_last=2)


@pytest.fixture
def save(run: RunFolder, checkpoints: Checkpoints) -> Callable[..., None]:
    owner = Ownership(run, Attempt())

    def at(step: int, *, best: int | None = None, size: int = 100) -> None:
        checkpoints.save(step, parts_of(step, size=size), VALUES, best=best, owner=owner)

    return at
