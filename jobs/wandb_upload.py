"""W&B runs on disk, and the folders that are made of them for the client to send."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.console import CommandError, counted, say, warn
from jobs.wandb_files import AttemptFolder, Record, find_attempts, frame, in_order
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.wandb_server import STRAY_VARIABLES, ServerError, WandbServer

RUN_PATTERNS = ("wandb", "runs/*/wandb", "pipeline/*/prior/wandb")
"""Where a run folder, or a sweep folder, has what the client left."""


@dataclass(frozen=True)
class WandbRun:
    """A W&B run with everything that is on disk of it."""

    folder: RunFolder
    id: str
    folders: Sequence[AttemptFolder]
    """One an attempt, in the order of their starts."""
    alive: bool
    """A training still writes."""
    newest: bool
    """metrics.jsonl belongs to this run, not to a later generation."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.folder.path.name} ({self.id})"

    @property
    def sent(self) -> bool:
        """Nothing is left to send."""
        return all(attempt.sent for attempt in self.folders)

    @cached_property
    def attempts(self) -> list[AttemptFolder]:
        """The attempts without those that a kill left empty; this reads the logs."""
        return [attempt for attempt in self.folders if attempt.run]

    def mark_sent(self) -> None:
        """Note that everything that was read is at the server."""
        for attempt in self.folders:
            attempt.mark_sent()

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl that belong to the run."""
        return [row for row in self.folder.read_metrics() if "global_step" in row] if self.newest else []

    def last_step_at(self, server: WandbServer) -> int:
        """The last global step that the server has; CommandError where it can't be asked."""
        about: Any = self.attempts[-1].run
        try:
            return server.last_step(entity=about.entity, project=about.project, run_id=self.id)
        except ServerError as error:
            raise CommandError(f"W&B: {error}; the same command tries again") from None


def wandb_folders(folder: Path) -> list[Path]:
    """Each ``wandb/`` of a run folder, or of the runs of a sweep folder."""
    return sorted(path for pattern in RUN_PATTERNS for path in folder.glob(pattern) if path.is_dir())


def find_runs(folder: Path) -> Iterator[WandbRun]:
    """Every W&B run in a folder; no log is read whole unless it was written a moment ago."""
    for path in wandb_folders(folder):
        found = find_attempts(path)
        newest = in_order([attempts[-1] for attempts in found.values()])[-1:]
        for run_id, attempts in found.items():
            alive = _still_writes(attempts)
            yield WandbRun(RunFolder(path.parent), run_id, attempts, alive, newest=attempts[-1] in newest)


def _still_writes(attempts: Sequence[AttemptFolder]) -> bool:
    """Whether a training writes one of the logs; one that can't be read is named when it is to be sent."""
    youngest = max(attempts, key=lambda attempt: attempt.started)  # its log may not say yet which one it is
    try:
        return attempts[-1].alive or youngest.alive
    except OSError:
        return False


def name_damage(run: WandbRun) -> None:
    """Say which logs of a run, that no process writes any more, are empty or torn."""
    for attempt in run.folders:
        if attempt.marker_damaged:
            warn(f"{attempt.marker}: damaged; what the server lacks of {attempt.log.name} is sent again")
        if attempt.run is None:
            warn(f"{attempt.log}: empty, its process was killed as it started; nothing in it to send")
        elif attempt.torn and not attempt.sent:
            count = len(attempt.records)
            warn(f"{attempt.log}: cut or damaged in a record; the {count} whole ones before it are used")


@dataclass(frozen=True)
class Upload:
    """A run's new rows as a folder that `wandb sync` takes."""

    run: WandbRun
    path: Path
    steps: int

    @property
    def log(self) -> Path:
        """The log in it."""
        return self.path / f"run-{self.run.id}.wandb"

    @property
    def arrived(self) -> bool:
        """The client says that everything in the log is at the server."""
        return self.log.with_name(f"{self.log.name}.synced").exists()

    def close(self) -> bool:
        """Mark what arrived; return whether it did."""
        if self.arrived:
            self.run.mark_sent()
            say(f"{self.run.name}: sent {counted(self.steps, 'step')}")
        else:
            warn(f"{self.run.name}: not sent; the same command tries again")
        return self.arrived


def make_upload(run: WandbRun, records: Sequence[Record], scratch: Path, *, steps: int) -> Upload:
    """Write a log and put links to the run's files beside it."""
    path = Path(tempfile.mkdtemp(dir=scratch)) / f"offline-run-{run.attempts[-1].started}-{run.id}"
    path.mkdir()
    upload = Upload(run, path, steps)
    upload.log.write_bytes(frame(record.SerializeToString() for record in records))
    link_files(run.attempts, path / "files")
    return upload


def link_files(attempts: Sequence[AttemptFolder], target: Path) -> None:
    """Links in ``target`` to the attempts' pictures and other files; of two with one name the later one."""
    for attempt in attempts:
        for source in (attempt.path / "files").rglob("*"):
            link = target / source.relative_to(attempt.path / "files")
            if source.is_file():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(source.absolute())


def client_environment() -> dict[str, str]:
    """The environment without what would make the client use another run or stay offline."""
    return {key: value for key, value in os.environ.items() if key not in STRAY_VARIABLES}
