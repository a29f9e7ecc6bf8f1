"""Earlier runs that ``--fresh`` keeps in a run folder, each in a numbered folder of ``previous``."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_tools.console import CommandError, say, warn
from vqvae_dist.files import write_json
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import Attempt, Ownership, RunFolder

OLD_RUNS = "previous"
"""Subfolder where ``--fresh`` keeps earlier generations of a run."""

KEPT_BY_FRESH = {OLD_RUNS, "wandb", "owner.json"}

UNDER_WAY = "moving.json"
"""In ``previous`` while a run is moved there: what is left of it outside is moved too, whoever comes next."""


def next_generation(run: RunFolder) -> int:
    """The number after all those that ``--fresh`` has kept in this folder, whichever of them were deleted since."""
    kept = run.path / OLD_RUNS
    names = [path.name for path in kept.iterdir()] if kept.is_dir() else []
    return max((int(name) + 1 for name in names if name.isdecimal()), default=0)


def set_aside(run: RunFolder, generation: int | None) -> None:
    """Move what a run left into its ``previous`` subfolder; ``generation`` is None where its config.json is no help.

    After a kill the next command moves the rest, see ``finish_set_aside``.
    """
    left = _left(run)
    if not left:
        return
    kept, number = run.path / OLD_RUNS, next_generation(run) if generation is None else generation
    if any((kept / str(number) / path.name).exists() for path in left):  # another run's: it stays what it is
        number = next_generation(run)
    kept.mkdir(exist_ok=True)
    write_json(kept / UNDER_WAY, {"generation": number})
    _move(run, number)


def finish_set_aside(run: RunFolder, attempt: Attempt) -> None:
    """Move the rest where a kill came while ``--fresh`` moved a run aside: half of it could not go on."""
    note = run.path / OLD_RUNS / UNDER_WAY
    if not note.is_file():
        return
    number = read_json(note).get("generation")
    if not isinstance(number, int):
        raise CommandError(
            f"{note}: damaged; move what is left of the earlier run to a folder beside it, and delete it"
        )
    warn(f"{run.path}: an interrupted --fresh is finished first")
    Ownership(run, attempt)
    _move(run, number)


def _move(run: RunFolder, number: int) -> None:
    target = run.path / OLD_RUNS / str(number)
    target.mkdir(exist_ok=True)
    for path in _left(run):
        shutil.move(path, target / path.name)
    (run.path / OLD_RUNS / UNDER_WAY).unlink()
    say(f"the earlier run is kept in {target}")


def _left(run: RunFolder) -> list[Path]:
    """What of a run lies in its folder itself, config.json last."""
    left = (path for path in run.path.iterdir() if path.name not in KEPT_BY_FRESH)
    return sorted(left, key=lambda path: path == run.config_file)
