"""``python -m jobs dashboard``: the W&B folders of a sweep as a trackio project, to look at here in a browser.

Needs trackio, the extra ``dashboard``. The project is made anew each time from what the runs have left so far.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

from data_tools.console import CommandError, UsageError, counted, say
from data_tools.staging import staged
from jobs.wandb_merge import Row, merge_rows
from jobs.wandb_upload import WandbRun, find_runs

MARK = "made_by_vqvae_jobs"
"""A file in each ``trackio/`` made here; without it the folder is somebody else's, and stays."""


def fill(folder: Path) -> int:
    """Write the runs of a sweep folder, or one run, to ``trackio/`` in it; return the exit status.

    Raises:
        UsageError: ``trackio/`` is there and was not made by this command.
        CommandError: There are no runs, or trackio is not installed; an earlier ``trackio/`` stays as it is.
    """
    runs = [run for run in find_runs(folder) if run.attempts]
    if not runs:
        raise CommandError(f"{folder}: no wandb/ folder in it; nothing was tracked here (see tracking.mode)")
    store, project = folder.resolve() / "trackio", folder.resolve().name
    if store.exists() and not (store / MARK).is_file():
        raise UsageError(f"{store} was not made by this command; move it away")
    with staged(store) as staging:
        made = staging / "made"
        trackio = import_trackio(made)
        made.mkdir()
        with contextlib.redirect_stdout(io.StringIO()):  # it tells of the staging folder
            for run in runs:
                fill_run(trackio, run, project)
        (made / MARK).touch()
        if store.exists():
            store.replace(staging / "earlier")
        made.replace(store)
    show = f"TRACKIO_DIR={shlex.quote(str(store))} trackio show --project {shlex.quote(project)}"
    say(f"{store}: {counted(len(runs), 'run')}; to look at:\n{show}")
    return 0


def import_trackio(store: Path) -> Any:
    """The library, which will write to ``store``; CommandError where it is not installed."""
    os.environ["TRACKIO_DIR"] = str(store)  # read when trackio is imported
    try:
        return import_module("trackio")
    except ImportError as error:
        raise CommandError(f"trackio can't be imported ({error}): pip install '.[dashboard]' in the checkout") from None


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
