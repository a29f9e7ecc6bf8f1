"""``python -m jobs sync --live``: follow trainings that still write, from a machine that has a network.

Each run gets a relay: a log in scratch that starts with what the server lacks and then grows as the training's own
log grows, but without the steps that the server has. `wandb beta sync --live` sends relays while they grow, and would
wait for ever for the end of a run whose process was killed; a relay always gets its end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_tools.console import counted, describe, say, warn
from jobs.wandb_files import Record, find_attempts, frame, new_record
from jobs.wandb_merge import history_record, history_row, last_step, merge, step_in
from jobs.wandb_upload import Upload, WandbRun, client_environment, find_runs, link_files, make_upload
from vqvae_dist.wandb_server import WandbServer

EVERY_S = 5.0
"""Seconds between two looks at the logs."""

LAST_S = 120.0
"""How long the client may take to send what is left once all runs have ended."""


def follow(folder: Path, server: WandbServer) -> None:
    """Send what running trainings write until none runs any more."""
    relays: dict[Path, Relay | None] = {}
    senders: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="wandb-live-") as scratch:
        try:
            while True:
                runs = [run for run in find_runs(folder) if may_follow(run) and run.folders[-1].path not in relays]
                new = {run.folders[-1].path: start_relay(run, server, Path(scratch)) for run in runs}
                if uploads := [relay.upload for relay in new.values() if relay]:
                    senders.append(start_sender(uploads))
                relays |= new
                if not [relay for relay in relays.values() if relay and relay.pump()]:
                    break
                time.sleep(EVERY_S)
            wait_for(senders)
        finally:
            for sender in senders:
                sender.terminate()
                sender.wait()
        for relay in filter(None, relays.values()):
            relay.close()


def may_follow(run: WandbRun) -> bool:
    """It writes, has begun to, and does not send by itself."""
    return run.alive and run.folders[-1].run is not None and not run.folders[-1].online


def start_relay(run: WandbRun, server: WandbServer, scratch: Path) -> Relay | None:
    """A relay of a run; None, and the reason said, where it can't be followed: the others go on."""
    try:
        return Relay(run, server, scratch)
    except Exception as error:  # what is wrong with one run stops no other
        warn(f"{run.name}: not followed: {describe(error)}")
        return None


class Relay:
    """A growing log with what the server lacks of a run that is being written."""

    def __init__(self, run: WandbRun, server: WandbServer, scratch: Path) -> None:
        self._attempt = run.attempts[-1]
        after = run.last_step_at(server)
        records = merge(run.attempts, [], after=after, with_exit=False)
        self._steps = sum(record.HasField("history") for record in records)
        self._last = last_step(records, after)
        self._taken, self._over, self._broken = len(self._attempt.records), False, False
        self.upload = make_upload(run, records, scratch, steps=self._steps)
        say(f"{run.name}: following")

    def pump(self) -> bool:
        """Pass on what is new; return whether more may come."""
        if self._over:
            return False
        try:
            return self._pass_on()
        except Exception as error:  # what is wrong with one run stops no other
            warn(f"{self.upload.run.name}: not followed any more: {describe(error)}")
            self._over = self._broken = True
            self._append([_failed()])
            return False

    def _pass_on(self) -> bool:
        now = self._attempt = replace(self._attempt)  # a fresh one, that reads the log again
        alive = now.alive and not self._was_replaced()
        new, self._taken = now.records[self._taken :], len(now.records)
        link_files([now], self.upload.path / "files")
        passed = [record for record in map(self._pass, new) if record is not None]
        if not now.ended and not alive:
            passed.append(_failed())
        self._append(passed)
        self._over = not alive
        return alive

    def close(self) -> None:
        """Mark the run as sent if its end was; one that was killed has more in metrics.jsonl for `sync` to send."""
        if not self._broken and self._attempt.ended and self.upload.arrived:
            for attempt in (*self.upload.run.folders[:-1], self._attempt):
                attempt.mark_sent()
            say(f"{self.upload.run.name}: followed to its end, {counted(self._steps, 'step')}")

    def _pass(self, record: Record) -> Record | None:
        """A record as the relay holds it; None for a step that the server has."""
        if not record.HasField("history"):
            return record
        row = history_row(record)
        step = step_in(self._attempt, row)
        if step is None or step <= self._last:
            return None
        self._last, self._steps = step, self._steps + 1
        return history_record(self._steps - 1, row)

    def _append(self, records: Sequence[Record]) -> None:
        position = self.upload.log.stat().st_size
        with self.upload.log.open("ab") as file:
            file.write(frame((record.SerializeToString() for record in records), position=position))

    def _was_replaced(self) -> bool:
        """A newer attempt goes on with the run."""
        attempts = find_attempts(self._attempt.path.parent)[self._attempt.run_id]
        return attempts[-1].path != self._attempt.path


def _failed() -> Record:
    record = new_record()
    record.exit.exit_code = 1
    return record


def start_sender(uploads: Sequence[Upload]) -> subprocess.Popen[bytes]:
    """Start the client's follower on some relays."""
    command = [sys.executable, "-m", "wandb", "beta", "sync", "--live", "--yes", *(str(u.path) for u in uploads)]
    return subprocess.Popen(command, env=client_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(senders: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until the senders are done, or LAST_S have gone."""
    until = time.monotonic() + LAST_S
    while time.monotonic() < until and any(sender.poll() is None for sender in senders):
        time.sleep(0.2)
