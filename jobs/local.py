"""Feeding a sweep to this machine: so many members at a time, GPUs shared out, then the pipeline, stage by stage."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

from data_tools.console import Bar, draws_many_bars, many_bars, say
from jobs.collect import choose_best, write_best
from jobs.folder import Plan, SweepFolder
from jobs.how_far import how_far, step_bar
from jobs.launch import submit_local
from jobs.ledger import History, Ledger
from jobs.machine import Share, resolve, share_of, slots_of, visible_gpus
from jobs.outcome import tell_outcome
from jobs.processes import ProcessName
from jobs.snapshot import take_snapshot
from jobs.status import Status, read_status
from jobs.tables import count_states

Launch = Callable[[SweepFolder, Plan, str, Share], Any]
"""Starts a unit; returns what tells whether it is ``done()``."""

POLL_S = 0.5
SAY_EVERY_S = 15.0


def run_here(folder: SweepFolder, plan: Plan) -> int:
    """Run what is missing of a sweep in the foreground; return the exit status. Ctrl-C stops the members cleanly."""
    gpus = visible_gpus() if plan.profile.gpus_per_node else ()
    plan = replace(plan, profile=resolve(plan.profile, gpus))
    folder.write_plan(plan)
    with _only_feeder(folder) as alone:
        if not alone:
            say(f"{folder.path} is being run already; it takes up what is new (`python -m jobs status {plan.name}`)")
            return 0
        feeder = Feeder(folder, gpus, partial(submit_local, code=take_snapshot(folder)))
        with _terminable():
            try:
                return feeder.run()
            except KeyboardInterrupt:
                feeder.stop()
                return 130


class Feeder:
    """Keeps the slots of this machine filled. What it knows is in the ledger: another one can take over at any time."""

    def __init__(self, folder: SweepFolder, gpus: tuple[int, ...], launch: Launch) -> None:
        self.folder, self.gpus, self.launch = folder, gpus, launch
        self.ledger = Ledger(folder.events_file)
        self.jobs: list[Any] = []
        """Held so that ended processes are reaped."""
        self.said: dict[str, str] = {}
        self.last_said = time.monotonic()
        self.stopping = False

    def run(self) -> int:
        """Run members, then stages; return 0 if all of them are completed."""
        with many_bars() as show:
            plan, rows = self._feed(show)
        return self._finish(plan, rows)

    def _feed(self, show: Callable[[Mapping[str, Bar]], None]) -> tuple[Plan, list[Status]]:
        """Start what there is room for until nothing waits; return how everything ended."""
        while True:
            plan = self.folder.read_plan()
            rows = self._look(plan)
            self._tell(plan, rows)
            running = [row for row in rows if row.state == "running"]
            show({plan.name: how_far(plan, rows)} | {row.unit: step_bar(row) for row in running})
            busy = [row.unit for row in running]
            waiting = self._waiting(plan, rows, busy)
            if not busy and not waiting:
                return plan, rows
            for unit in waiting[: slots_of(plan) - len(busy)] if len(busy) < slots_of(plan) else []:
                self._start(plan, unit, busy)
                busy.append(unit)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ask what runs to save and end, and wait for it; a second Ctrl-C leaves it to end by itself."""
        self.stopping = True
        plan = self.folder.read_plan()
        running = [row for row in self._look(plan) if row.state == "running"]
        if running:
            say(f"stopping {len(running)}: they save and end; the same command goes on (Ctrl-C again: don't wait)")
        histories = self.ledger.histories()
        for row in running:
            ask_to_stop(histories[row.unit])
        with contextlib.suppress(KeyboardInterrupt):
            while any(row.state == "running" for row in self._look(plan)):
                time.sleep(POLL_S)

    def _look(self, plan: Plan) -> list[Status]:
        """The status of all units, after noting which jobs ended before they could write anything down."""
        self.jobs = [job for job in self.jobs if not job.done()]
        rows = read_status(self.folder, plan)
        histories = self.ledger.histories()
        silent = [row for row in rows if row.state == "lost" and not _began(histories[row.unit])]
        for row in silent:
            reason = f"its process ended before it began; see {self.folder.log_file(row.job_id or '')}"
            state, reason = ("stopped", "stopped before it began") if self.stopping else ("failed", reason)
            self.ledger.append("ended", unit=row.unit, job_id=row.job_id, state=state, reason=reason)
        return self._look(plan) if silent else rows

    def _waiting(self, plan: Plan, rows: list[Status], busy: list[str]) -> list[str]:
        """Units to start as soon as there is room: members first, then one stage after the other."""
        state = {row.unit: row.state for row in rows}
        members = [member.run_id for member in plan.current if state[member.run_id] in ("pending", "lost")]
        if members or busy:
            return members
        if not any(state[member.run_id] == "completed" for member in plan.current):
            return []
        due = [stage.name for stage in plan.pipeline if state.get(stage.name) != "completed"]
        if due and state.get(due[0], "pending") not in ("pending", "lost"):
            due = [name for name in due[1:] if name == "report"]  # it tells of a failure too
        return [name for name in due[:1] if state.get(name, "pending") in ("pending", "lost")]

    def _start(self, plan: Plan, unit: str, busy: list[str]) -> None:
        histories = self.ledger.histories()
        taken = {gpu for other in busy for gpu in histories[other].gpus}
        share = share_of(plan, unit, [gpu for gpu in self.gpus if gpu not in taken])
        self.jobs.append(self.launch(self.folder, plan, unit, share))

    def _tell(self, plan: Plan, rows: list[Status]) -> None:
        """Say what changed, and where no bars show it, now and then how far everything is."""
        for row in rows:
            if self.said.setdefault(row.unit, "pending") != row.state:
                self.said[row.unit] = row.state
                say(f"{row.unit}: {row.state}{_outcome(row)}")
        if not draws_many_bars() and time.monotonic() - self.last_said > SAY_EVERY_S:
            self.last_said = time.monotonic()
            for row in rows:
                if row.state == "running" and row.step:
                    say(f"{row.unit}: {step_bar(row).said}")
            say(f"{plan.name}: {how_far(plan, rows).said}")

    def _finish(self, plan: Plan, rows: list[Status]) -> int:
        if not plan.pipeline and any(row.state == "completed" for row in rows):
            write_best(self.folder, choose_best(self.folder, plan))
        say(f"{plan.name}: {count_states(rows)}; {self.folder.path}")
        return tell_outcome(self.folder, plan, rows)


def _began(history: History) -> bool:
    return any(start.job_id == history.job_id for start in history.starts)


def _outcome(row: Status) -> str:
    if row.state == "completed" and row.best:
        return f", best {row.best['metric']} {row.best['value']:.4f} at step {row.best['step']}"
    return f" ({row.reason})" if row.reason else ""


def ask_to_stop(history: History) -> None:
    """Tell a local unit's processes to save and end; submitit's controller passes the signal on to each of them."""
    if history.process and ProcessName(**history.process).is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(history.process["pid"], signal.SIGTERM)


@contextlib.contextmanager
def _only_feeder(folder: SweepFolder) -> Iterator[bool]:
    """Whether we are the only one to feed this sweep; the lock ends with our process, however it ends."""
    with folder.lock_file.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Take ``kill`` and a closed terminal for a Ctrl-C; hear that one, too, where a script's ``&`` switched it off."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
