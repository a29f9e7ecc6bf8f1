"""A browser dashboard without a server: the W&B folders of a sweep as a trackio project, to look at on this machine.

    python -m jobs.dashboard runs/NAME && TRACKIO_DIR=runs/NAME/trackio trackio show --project NAME

Needs trackio (``pip install trackio``). The project is made anew each time from what the runs have left so far.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from data_tools.console import CommandError, UsageError, run_command, say
from jobs.wandb_merge import Row, merge_rows
from jobs.wandb_upload import WandbRun, find_runs


def fill(folder: Path) -> int:
    """Write the runs of a sweep folder, or one run, to ``trackio/`` in it; CommandError without runs or trackio."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give that of a sweep or of a run")
    runs = [run for run in find_runs(folder) if run.attempts]
    if not runs:
        raise CommandError(f"{folder}: no wandb/ folder in it; nothing was tracked here")
    store, project = folder.resolve() / "trackio", folder.resolve().name
    shutil.rmtree(store, ignore_errors=True)
    os.environ["TRACKIO_DIR"] = str(store)  # read when trackio is imported
    try:
        trackio = import_module("trackio")
    except ImportError:
        raise CommandError("trackio is not installed: pip install trackio") from None
    for run in runs:
        fill_run(trackio, run, project)
    say(f"{len(runs)} runs; look at them with: TRACKIO_DIR='{store}' trackio show --project '{project}'")
    return 0


def fill_run(trackio: Any, run: WandbRun, project: str) -> None:
    """Log what a run's attempts logged, each step once."""
    about: Any = run.attempts[-1].run
    config = {item.key: json.loads(item.value_json) for item in about.config.update if item.key != "_wandb"}
    started = trackio.init(
        project=project,
        name=run.name,
        group=about.run_group or None,
        config=config,
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    for step, row in sorted(merge_rows(run.attempts, run.metrics()).items()):
        started.log(numbers(row) | pictures(trackio, row, run), step=step)
    started.finish()


def numbers(row: Row) -> dict[str, float]:
    """The metrics of a row."""
    values = {path[0]: json.loads(text) for path, text in row.items() if len(path) == 1}
    shown = {key: value for key, value in values.items() if not key.startswith("_") and key != "time"}  # trackio's own
    return {key: value for key, value in shown.items() if isinstance(value, int | float)}


def pictures(trackio: Any, row: Row, run: WandbRun) -> dict[str, Any]:
    """The pictures of a row that are on disk."""
    found: dict[str, Any] = {}
    for (name, *rest), text in row.items():
        if rest == ["path"] and row.get((name, "_type")) == '"image-file"':
            for attempt in run.attempts:
                file = attempt.path / "files" / json.loads(text)
                if file.is_file():
                    found[name] = trackio.Image(file)
    return found


def main(arguments: Sequence[str]) -> int:
    """``python -m jobs.dashboard FOLDER``."""
    if list(arguments) in (["-h"], ["--help"]):
        say((__doc__ or "").strip())
        return 0
    if len(arguments) != 1:
        raise UsageError("usage: python -m jobs.dashboard SWEEP_FOLDER")
    return fill(Path(arguments[0]))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
