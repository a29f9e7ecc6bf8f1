"""Deleting what a sweep needs no more. Never the best run, and nothing of a run that may go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_tools.console import say
from data_tools.staging import STAGING
from jobs.collect import choose_best
from jobs.folder import Plan, SweepFolder
from jobs.status import Status, read_status


@dataclass(frozen=True)
class Waste:
    """Something that may be deleted."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = [self.path] if self.path.is_file() else self.path.rglob("*")
        return sum(file.lstat().st_size for file in files if not file.is_dir())


def prune_sweep(folder: SweepFolder, *, dry_run: bool) -> int:
    """Delete, or with ``dry_run`` only list, what isn't needed; return the exit status."""
    plan = folder.read_plan()
    waste = list(find_waste(folder, plan, read_status(folder, plan)))
    total = 0
    for item in waste:
        size = item.size
        total += size
        say(f"{size_text(size):>9}  {item.path.relative_to(folder.path)}  ({item.why})")
        if not dry_run:
            shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink(missing_ok=True)
    say(f"{'would delete' if dry_run else 'deleted'} {len(waste)} of {folder.path}: {size_text(total)}")
    return 0


def find_waste(folder: SweepFolder, plan: Plan, rows: list[Status]) -> Iterator[Waste]:
    """What isn't needed: checkpoints of completed members but the best, and what kills and old jobs left."""
    completed = [row for row in rows if row.stage == plan.stage and row.state == "completed"]
    kept = {folder.read_choice(), choose_best(folder, plan)["choice"] if completed else None}
    for row in completed:
        checkpoints = folder.run(row.unit).checkpoints
        if row.unit not in kept and checkpoints.is_dir():
            yield Waste(checkpoints, "completed, not the best; its model and metrics stay")
    if any(row.active for row in rows):
        return  # what looks like a leftover may be in the making
    for path in sorted(folder.path.rglob(f"{STAGING}*")):
        yield Waste(path, "left by a kill")
    for pattern in ("*_submitted.pkl", "*_result.pkl", "*_submission.sh", "*.pkl.save_tmp"):
        for path in sorted(folder.logs.glob(pattern)):
            yield Waste(path, "of a job that has ended")


def size_text(size: float) -> str:
    """``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
