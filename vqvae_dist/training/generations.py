"""Earlier runs that ``--fresh`` keeps in a run folder, each in a numbered folder of ``previous``."""

from __future__ import annotations

import shutil

from data_tools.console import say
from vqvae_dist.run_folder import RunFolder

OLD_RUNS = "previous"
"""Subfolder where ``--fresh`` keeps earlier generations of a run."""

KEPT_BY_FRESH = {OLD_RUNS, "wandb", "owner.json"}


def next_generation(run: RunFolder) -> int:
    """The number after all those that ``--fresh`` has kept in this folder, whichever of them were deleted since."""
    kept = run.path / OLD_RUNS
    names = [path.name for path in kept.iterdir()] if kept.is_dir() else []
    return max((int(name) + 1 for name in names if name.isdecimal()), default=0)


def set_aside(run: RunFolder, generation: int | None) -> None:
    """Move what a run left into its ``previous`` subfolder; ``generation`` is None where its config.json is no help.

    config.json goes last: after a kill the folder is still the old run, and ``--fresh`` takes the rest away.
    """
    left = sorted(
        (path for path in run.path.iterdir() if path.name not in KEPT_BY_FRESH),
        key=lambda path: path == run.config_file,
    )
    if not left:
        return
    kept, number = run.path / OLD_RUNS, next_generation(run) if generation is None else generation
    if any((kept / str(number) / path.name).exists() for path in left):  # another run's: it stays what it is
        number = next_generation(run)
    target = kept / str(number)
    target.mkdir(parents=True, exist_ok=True)
    for path in left:
        shutil.move(path, target / path.name)
    say(f"the earlier run is kept in {target}")
