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
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_tools.console import say, warn
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.wandb_server import NO_STEP, STRAY_VARIABLES, ServerError, find_server

Mode = Literal["online", "offline"]

FINISH_S = 9.5
"""The longest that the end of a training waits for a W&B run to end."""

START_S = 30.0
"""The longest that it waits before for the start, which takes this only on an overloaded machine: a server that does
not answer costs PROBE_S."""

SEND_S = 8.0
"""How long of that the client may still send."""

SETTLE_S = 3.0
"""Values of one step that come within this time are one row in W&B: its scores, its picture, its histograms."""


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
            warn(f"W&B could not start ({_first_line(error)}); metrics.jsonl has every row")
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
                raise ServerError(f"{waiting[0].name} of an earlier attempt waits for `jobs sync`")
            server = find_server(site.base_url)
            last_step = server.last_step(entity=about.entity, project=about.project, run_id=about.id)
            run = init(wandb, folder, about, "online")
        except ServerError as error:
            reason = str(error)
        except Exception as error:  # whatever the client raises where the server fails after it answered us
            reason = _first_line(error)
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


class Writer:
    """A started run: makes one row of what belongs to one step, keeps best values, and survives the client's errors.

    Args:
        wandb: The module.
        run: The started run.
        after: The last step that W&B has; rows up to it are not logged again.
        earlier: The rows of earlier attempts; those that W&B does not have are logged now.
    """

    def __init__(self, wandb: Any, run: Any, *, after: int, earlier: Iterable[Mapping[str, Any]]) -> None:
        self.finished = False
        self._wandb, self._run, self._after = wandb, run, after
        self._step, self._row, self._since = 0, dict[str, Any](), 0.0
        self._best: dict[str, float] = {}
        self._warned = False
        for row in earlier:
            self.add(row["global_step"], row)
        self.commit()

    def try_to(self, work: Callable[[Writer], None]) -> None:
        """Do some work; what the client raises is said once."""
        try:
            work(self)
        except Exception as error:
            if not self._warned:
                warn(f"W&B: {_first_line(error)}; training goes on, metrics.jsonl has every row")
            self._warned = True

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add values to the row of a step; a new step completes the row before."""
        if step != self._step:
            self.commit()
        self._step, self._since = step, self._since or time.monotonic()
        self._row |= {key: value for key, value in values.items() if _loggable(value)}

    def settle(self) -> None:
        """Complete a row that nothing was added to for a while."""
        if self._row and time.monotonic() - self._since >= SETTLE_S:
            self.commit()

    def commit(self) -> None:
        """Log the row that is being collected."""
        row, step = self._row, self._step
        self._row, self._since = {}, 0.0
        if row:
            self._update_best(row)
        if row and step > self._after:
            self._run.log({key: self._made(value) for key, value in row.items()} | {"global_step": step})

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary."""
        self._run.summary.update(dict(values))

    def finish(self, state: str) -> None:
        """End the run; a stopped one shows as preempted until it goes on."""
        self.finished = True
        self.try_to(Writer.commit)
        if state == "stopped":
            self._run.mark_preempting()
        began = time.monotonic()
        self._run.finish(exit_code=0 if state == "completed" else 1)
        if time.monotonic() - began >= SEND_S:
            warn(f"W&B did not take everything in {SEND_S:.0f} s; python -m jobs sync sends the rest")

    def _made(self, value: Any) -> Any:
        return value(self._wandb) if callable(value) else value

    def _update_best(self, row: Mapping[str, Any]) -> None:
        better = {key: value for key, value in best_of(self._best, row).items() if self._best.get(key) != value}
        if better:
            self._best |= better
            self._run.summary.update(better)


def best_of(best: Mapping[str, float], row: Mapping[str, Any]) -> dict[str, float]:
    """``best`` with the validate/ metrics of a row: ``best/ssim`` for ``validate/ssim``."""
    updated = dict(best)
    for key, value in row.items():
        stage, _, metric = key.partition("/")
        if stage == "validate" and isinstance(value, int | float):
            name = f"best/{metric}"
            choose = min if metric in LOWER_IS_BETTER else max
            updated[name] = choose(updated.get(name, value), value)
    return updated


LOWER_IS_BETTER = frozenset({"mse", "mse_foreground", "loss", "bits_per_code", "bits_per_code_foreground"})
"""validate/ metrics of which the lowest is the best."""


def _loggable(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
