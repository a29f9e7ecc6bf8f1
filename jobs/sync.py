"""``python -m jobs sync``: send to W&B what trainings left on disk, each step once, and say what is left.

The client's own ``wandb sync`` stops at the first empty log, sends a torn one again each time, appends what two
attempts both did, and reports success in every case. So each run is first made into one whole log of what the server
lacks (see ``wandb_merge``), that is given to ``wandb sync``, and what counts is the marker that it leaves.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from data_tools.console import CommandError, describe, say, warn
from jobs.sync_live import follow
from jobs.wandb_merge import merge
from jobs.wandb_upload import Upload, WandbRun, client_environment, find_runs, make_upload, name_damage, wandb_folders
from vqvae_dist.wandb_server import ServerError, WandbServer, find_server

AT_ONCE = 8
"""Runs that the server is asked about at a time."""

START_S = 60.0
EACH_S = 60.0
"""How long `wandb sync` may take, at the start and for each run."""


def sync(folder: Path, *, live: bool = False) -> int:
    """Send every run of a sweep (or the one run) in ``folder`` to W&B; return the exit status.

    May be called again and again: what the server has is not sent twice. Runs that still write are left for later,
    or, if ``live``, followed to their end.

    Returns:
        0 if everything is at the server, 1 if something is left; each such run was named.

    Raises:
        CommandError: No run here was tracked by W&B, or the server can't be used.
    """
    if not wandb_folders(folder):
        raise CommandError(f"{folder}: no wandb/ folder in it; nothing was tracked here (see tracking.mode)")
    server = connect()
    if live:
        follow(folder, server)
    return 1 if send(list(find_runs(folder)), server) else 0


def connect() -> WandbServer:
    """The server that the client would use; CommandError where there is none or no key."""
    import wandb

    try:
        return find_server(wandb.setup().settings.base_url)
    except ServerError as error:
        raise CommandError(f"W&B: {error}") from None


def send(runs: Sequence[WandbRun], server: WandbServer) -> list[WandbRun]:
    """Send runs; return those of which something is left."""
    left: list[WandbRun] = []
    waiting = [run for run in runs if waits(run, left)]
    if waiting:
        check_answers(server)
    with tempfile.TemporaryDirectory(prefix="wandb-sync-") as scratch:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            prepared = list(pool.map(lambda run: try_to_prepare(run, server, Path(scratch), left), waiting))
        uploads = [upload for upload in prepared if upload]
        if uploads:
            wandb_sync([upload.path for upload in uploads])
        for upload in uploads:
            with leaving(upload.run, left):
                if not upload.close():
                    left.append(upload.run)
    count = len(runs) - len(left)
    say(f"{count} of {len(runs)} runs are at {server.url}" + (f", {len(left)} are not" if left else ""))
    return left


@contextmanager
def leaving(run: WandbRun, left: list[WandbRun]) -> Iterator[None]:
    """Say what is wrong with one run and leave it, whatever it is: the others go on."""
    try:
        yield
    except Exception as error:  # what is wrong with one run stops no other
        warn(f"{run.name}: left: {describe(error)}")
        left.append(run)


def waits(run: WandbRun, left: list[WandbRun]) -> bool:
    """Whether a run is to be sent now; one that still writes is left for later."""
    with leaving(run, left):
        if run.sent:
            return False
        if not run.alive:
            return True
        say(f"{run.name}: still writes; sync again later, or --live")
        left.append(run)
    return False


def check_answers(server: WandbServer) -> None:
    """CommandError where the server answers nobody: said once, and not for each run."""
    try:
        server.default_entity()
    except ServerError as error:
        raise CommandError(f"W&B: {error}; nothing was sent, the same command tries again") from None


def try_to_prepare(run: WandbRun, server: WandbServer, scratch: Path, left: list[WandbRun]) -> Upload | None:
    """``prepare``; a run of which that fails is named and left."""
    with leaving(run, left):
        return prepare(run, server, scratch)
    return None  # type: ignore[unreachable]  # mypy doesn't see that an error ends in ``leaving``


def prepare(run: WandbRun, server: WandbServer, scratch: Path) -> Upload | None:
    """Make the upload of a run; None, and the run marked, where nothing is left to send after all."""
    name_damage(run)
    if run.attempts:
        last_step = run.last_step_at(server)
        records = merge(run.attempts, run.metrics(), after=last_step)
        steps = sum(record.HasField("history") for record in records)
        if steps or not all(attempt.online or attempt.sent for attempt in run.attempts):
            return make_upload(run, records, scratch, steps=steps)
    run.mark_sent()
    return None


def wandb_sync(folders: Sequence[Path]) -> None:
    """Run `wandb sync` on folders and wait; its exit status says nothing, so it isn't looked at."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, folders)]
    limit = START_S + EACH_S * len(folders)
    try:
        done = subprocess.run(command, env=client_environment(), capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        warn(f"`wandb sync` was not done after {limit:.0f} s and was ended")
        return
    for line in done.stderr.splitlines():
        if "ERROR" in line:
            warn(line)
