"""The W&B side of a training: one run, whatever happens to the network, and never in the training's way.

Everything that touches wandb happens in one thread that takes its work from a queue, so that nothing the client does
(a start that waits for a server, a picture that is compressed, an error) can delay or end a training step. Only
``finish`` waits, and not for long.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_tools.console import first_line, say, warn
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training.wandb_writer import SEND_S, Writer
from vqvae_dist.wandb_server import NO_STEP, STRAY_VARIABLES, ServerError, find_server

Mode = Literal["online", "offline"]

FINISH_S = 9.5
"""The longest that the end of a training waits for a W&B run to end."""

START_S = 30.0
"""The longest that it waits before for the start, which takes this only on an overloaded machine: a server that does
not answer costs PROBE_S."""


def choose_mode(wanted: str) -> Mode | None:
    """What ``tracking.mode`` tries first; None: no W&B. ``auto`` follows a WANDB_MODE, else tries online."""
    if wanted == "auto":
        wanted = os.environ.get("WANDB_MODE", "online")
    if wanted == "disabled":
        return None
    return "offline" if wanted in ("offline", "dryrun") else "online"


@dataclass(frozen=True)
class RunAbout:
    """What W&B is told about a run when it starts."""

    id: str
    name: str
    project: str
    entity: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    resume_step: int


class WandbRun:
    """A W&B run that takes rows, media and summary values at any time and sends or stores them when it can."""

    def __init__(self, folder: RunFolder, about: RunAbout, *, mode: Mode) -> None:
        for name in STRAY_VARIABLES:
            os.environ.pop(name, None)
        self._inbox: queue.SimpleQueue[Callable[[Writer], None]] = queue.SimpleQueue()
        self._over = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(folder, about, mode), name="wandb", daemon=True)
        self._thread.start()

    def row(self, step: int, values: Mapping[str, Any]) -> None:
        """Log values at a step; a callable is given the wandb module and makes the value."""
        self._put(lambda writer: writer.add(step, values))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary."""
        self._put(lambda writer: writer.summarise(values))

    def finish(self, state: str) -> None:
        """End the run and wait for that, for a bounded time."""
        if self._over:
            return
        self._put(lambda writer: writer.finish(state))
        self._started.wait(START_S)
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            warn("W&B is not done yet and is left behind; every row is in metrics.jsonl")
        self._over = True

    def _put(self, work: Callable[[Writer], None]) -> None:
        if not self._over:
            self._inbox.put(work)

    def _work(self, folder: RunFolder, about: RunAbout, mode: Mode) -> None:
        try:
            writer = start(folder, about, mode)
        except ImportError:
            warn("wandb is not installed: this run is not tracked in W&B; metrics.jsonl has every row")
            self._over = True
            return
        except Exception as error:
            warn(f"W&B could not start ({first_line(error)}); metrics.jsonl has every row")
            self._over = True
            return
        finally:
            self._started.set()
        while not writer.finished:
            with contextlib.suppress(queue.Empty):
                writer.try_to(self._inbox.get(timeout=0.5))
            writer.try_to(Writer.settle)


def start(folder: RunFolder, about: RunAbout, mode: Mode) -> Writer:
    """Start W&B online where the server answers, and else offline; one line says which and why."""
    import wandb

    site = wandb.setup(wandb.Settings(silent=True)).settings
    earlier = [row for row in folder.read_metrics() if row.get("global_step", math.inf) <= about.resume_step]
    last_step, reason = NO_STEP, ""
    if mode == "online":
        try:
            if waiting := unsent_folders(folder, about.id):
                raise ServerError(f"{waiting[0].name} of an earlier attempt waits for `python -m jobs sync`")
            server = find_server(site.base_url)
            last_step = server.last_step(entity=about.entity, project=about.project, run_id=about.id)
            run = init(wandb, folder, about, "online")
        except ServerError as error:
            reason = str(error)
        except Exception as error:  # whatever the client raises where the server fails after it answered us
            reason = first_line(error)
        else:
            say(f"W&B: online, {run.url}")
            return Writer(wandb, run, after=last_step, earlier=earlier)
    run = init(wandb, folder, about, "offline")
    say(f"W&B: offline{f' ({reason})' if reason else ''}; to send it later: python -m jobs sync {folder.path}")
    return Writer(wandb, run, after=about.resume_step, earlier=earlier)  # earlier rows are in earlier folders


def unsent_folders(folder: RunFolder, run_id: str) -> list[Path]:
    """Offline folders of a run that were not sent; what comes after them must wait, or steps would be out of order."""
    found = sorted((folder.path / "wandb").glob(f"offline-run-*-{run_id}"))
    return [path for path in found if not (path / f"run-{run_id}.wandb.synced").exists()]


def init(wandb: Any, folder: RunFolder, about: RunAbout, mode: Mode) -> Any:
    """Start the client; the same id again goes on with the same run."""
    settings = wandb.Settings(
        init_timeout=20,  # training does not wait for it
        finish_timeout=SEND_S,
        x_transaction_log_flush_interval=0.5,  # the default of 15 s loses that much to a SIGKILL
        console="off",  # the launcher keeps the log; a second copy in W&B would cost a file more
        silent=True,
    )
    run = wandb.init(
        mode=mode,
        dir=folder.path,
        id=about.id,
        resume="allow",
        name=about.name,
        project=about.project,
        entity=about.entity or None,
        group=about.group or None,
        job_type=about.job_type,
        tags=list(about.tags) or None,
        config=dict(about.config),
        allow_val_change=True,
        save_code=False,
        settings=settings,
    )
    run.define_metric("global_step")
    run.define_metric("*", step_metric="global_step")
    return run
