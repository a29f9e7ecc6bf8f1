from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ledger import Event, Ledger, open_submissions, read_histories
from jobs.processes import ProcessName


def append_many(path: str, writer: int) -> None:
    for number in range(50):
        Ledger(Path(path)).append("ended", unit=f"{writer}", job_id=str(number), state="stopped", reason="x" * 300)


def test_lines_of_writers_at_once_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    context = get_context("spawn")
    writers = [context.Process(target=append_many, args=(str(file), number)) for number in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    events = Ledger(file).read()
    assert len(events) == len(file.read_text().splitlines()) == 200
    for number in range(4):
        assert [int(event["job_id"]) for event in events if event["unit"] == str(number)] == list(range(50))


def test_line_cut_by_a_kill_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    ledger = Ledger(file)
    ledger.append("cancelled", unit="a", by="me")
    file.write_bytes(file.read_bytes()[:-9])
    ledger.append("cancelled", unit="b", by="me")
    assert [event["unit"] for event in ledger.read()] == ["b"]


def test_lines_follow_each_other_and_only_a_cut_one_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    ledger = Ledger(file)
    for by in ("me", "you"):
        ledger.append("cancelled", unit="a", by=by)
    assert [json.loads(line)["by"] for line in file.read_text().split("\n")[:-1]] == ["me", "you"]
    whole = file.read_text()
    file.write_text(whole[:-1] + ' {"cut')
    ledger.append("cancelled", unit="a", by="them")
    assert file.read_text().startswith(whole[:-1] + ' {"cut\n{')
    assert file.stat().st_mode & 0o777 == 0o644


def test_an_event_has_its_time_to_the_millisecond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 12.3456)
    ledger = Ledger(tmp_path / "events.jsonl")
    ledger.append("cancelled", unit="a", by="me")
    assert ledger.read()[0]["time"] == 12.346


def test_a_value_that_is_no_json_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Ledger(tmp_path / "events.jsonl").append("ended", unit="a", value=float("nan"))
    assert not (tmp_path / "events.jsonl").exists()


def test_events_are_written_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    ledger = Ledger(tmp_path / "events.jsonl")
    ledger.append("cancelled", unit="a", by="me")
    assert len(ledger.read()) == 1


@contextlib.contextmanager
def no_room_after(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes; the system writes what still fits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_events_that_do_not_fit_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "events.jsonl")
    ledger.append("cancelled", unit="a", by="me")
    before = ledger.path.read_bytes()
    events = [{"event": "cancelled", "unit": unit, "by": "me"} for unit in "bc"]
    with no_room_after(len(before) * 2 + 9), pytest.raises(OSError, match=r"File too large: '.*events\.jsonl'"):
        ledger.append_all(events)
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize(
    "damaged",
    [
        {"event": "started", "unit": "a", "job_id": "7", "restart": 0},
        {"event": "started", "unit": "a", "job_id": "7", "restart": "0", "step": 3},
        {"event": "started", "unit": ["a"], "job_id": "7", "restart": 0, "step": 3},
        {"event": "submitted", "unit": "a", "job_id": "../7", "executor": "local"},
        {"event": "submitted", "unit": "a", "job_id": "7", "executor": "local", "gpus": ["0"]},
        {"event": "submitted", "unit": "a", "job_id": "7", "executor": "local", "process": {"pid": 3}},
        {"event": "submitted", "unit": "a", "job_id": "7", "executor": "local", "process": {"host": 3}},
        {"event": "ended", "unit": "a", "job_id": "7", "state": 3},
        {"event": "ended", "unit": "a", "job_id": "7", "state": "failed", "reason": {}},
        {"event": ["ended"], "unit": "a"},
        {"unit": "a"},
        ["event"],
        "event",
        None,
    ],
)
def test_an_event_that_is_not_what_its_kind_needs_is_left_out(damaged: object, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "events.jsonl")
    ledger.append("cancelled", unit="a", by="me")
    with ledger.path.open("a") as file:
        file.write(json.dumps(damaged) + "\n")
    process = {"host": "h", "boot": "b", "pid": 3, "started": 4}
    ledger.append("submitted", unit="a", job_id="7_1", executor="local", process=process, gpus=[0, 1])
    ledger.append("of a later version", unit="a")
    assert [event["event"] for event in ledger.read()] == ["cancelled", "submitted", "of a later version"]
    history = ledger.histories()["a"]
    assert (history.process, history.gpus, history.outcome) == (process, (0, 1), "")


def test_a_ledger_and_its_path_do_not_change(tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        Ledger(tmp_path).path = tmp_path / "other"  # type: ignore[misc]  # it is frozen


def event(name: str, unit: str = "a", **values: object) -> Event:
    return {"event": name, "unit": unit, **values}


def test_history_follows_a_unit_through_requeues() -> None:
    history = read_histories(
        [
            event("submitted", job_id="7_0", executor="slurm"),
            event("started", job_id="7_0", restart=0, step=0),
            event("ended", job_id="7_0", state="stopped", reason="stopped on request"),
            event("started", job_id="7_0", restart=1, step=40),
        ]
    )["a"]
    assert (history.attempts, history.outcome, history.job_id) == (2, "", "7_0")


def test_cancelled_unit_that_saved_and_left_stays_cancelled() -> None:
    history = read_histories(
        [
            event("submitted", job_id="7", executor="slurm"),
            event("started", job_id="7", restart=0, step=0),
            event("cancelled", by="somebody"),
            event("ended", job_id="7", state="stopped", reason=""),
        ]
    )["a"]
    assert (history.outcome, history.reason) == ("cancelled", "somebody")


@pytest.mark.parametrize(
    ("state", "outcome"), [("stopped", "cancelled"), ("failed", "cancelled"), ("crashed", "cancelled")]
)
def test_cancelled_stays_cancelled_unless_it_is_completed(state: str, outcome: str) -> None:
    begun = [event("submitted", job_id="7", executor="slurm"), event("cancelled", by="somebody")]
    assert read_histories([*begun, event("ended", job_id="7", state=state)])["a"].outcome == outcome
    assert read_histories([*begun, event("started", job_id="7", restart=0, step=0)])["a"].outcome == outcome
    completed = read_histories([*begun, event("ended", job_id="7", state="completed")])["a"]
    assert (completed.outcome, completed.reason) == ("completed", "")


@pytest.mark.parametrize("state", ["completed", "stopped", "failed", "crashed", "a later state"])
def test_the_newest_end_is_the_outcome_until_the_next_start(state: str) -> None:
    events = [event("ended", job_id="7", state="stopped"), event("ended", job_id="7", state=state, reason="why")]
    history = read_histories(events)["a"]
    assert (history.outcome, history.reason) == (state, "why")
    assert read_histories([*events, event("started", job_id="7", restart=1, step=0)])["a"].outcome == ""


def test_a_start_at_another_step_ends_the_row() -> None:
    steps = [40, 0, 60, 40]
    events = [event("started", job_id="7", restart=number, step=step) for number, step in enumerate(steps)]
    assert read_histories(events)["a"].starts_at(40, but=("6", 9)) == 1
    assert read_histories(events[:1])["a"].starts_at(40, but=("6", 9)) == 1
    assert read_histories(events[:3])["a"].starts_at(40, but=("8", 0)) == 0


def test_only_starts_at_the_same_step_count_as_without_progress() -> None:
    steps = [0, 0, 40, 40, 40]
    events = [event("started", job_id="7", restart=number, step=step) for number, step in enumerate(steps)]
    history = read_histories(events)["a"]
    assert history.starts_at(40, but=("7", 9)) == 3
    assert history.starts_at(40, but=("7", 4)) == 2  # this start itself, noted by another process already
    assert history.starts_at(60, but=("7", 9)) == 0


def test_reopened_unit_has_all_its_attempts_again() -> None:
    events = [event("started", job_id="7", restart=number, step=0) for number in range(3)]
    history = read_histories([*events, event("ended", job_id="7", state="failed", reason="x"), event("reopened")])["a"]
    assert (history.starts_at(0, but=("8", 0)), history.attempts, history.outcome, history.job_id) == (0, 3, "", "")


def test_submission_without_ids_stays_open() -> None:
    events: list[Event] = [
        {"event": "submitting", "nonce": "lost"},
        {"event": "submitting", "nonce": "fine"},
        event("submitted", nonce="fine", job_id="1", executor="slurm"),
        {"event": "submitting", "nonce": "refused"},
        {"event": "abandoned", "nonce": "refused"},
    ]
    assert open_submissions(events) == ["lost"]


@given(st.lists(st.sampled_from(["submitted", "started", "ended", "cancelled", "reopened"]), max_size=12))
def test_any_order_of_events_can_be_read(names: list[str]) -> None:
    events = [
        event(name, job_id=str(number), executor="local", restart=0, step=0, state="stopped")
        for number, name in enumerate(names)
    ]
    histories = read_histories(events)
    assert sum(history.attempts for history in histories.values()) == names.count("started")


def test_process_is_not_another_one_with_its_number() -> None:
    name = ProcessName.of(os.getpid())
    assert name.is_alive()
    assert not ProcessName(name.host, name.boot, name.pid, name.started + 1).is_alive()
    assert not ProcessName(name.host, "another boot", name.pid, name.started).is_alive()
    assert ProcessName("another machine", name.boot, name.pid, name.started).is_alive() is None


def test_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    name = ProcessName.of(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not name.is_alive()
    os.waitpid(pid, 0)
