from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.console import CommandError
from jobs.cancel import cancel_units
from jobs.config import Profile
from jobs.ledger import Ledger
from jobs.local import Feeder
from jobs.machine import Share, resolve, share_of
from jobs.pipeline import PipelineStage
from jobs.retry import retry_units
from jobs.status import read_status
from tests.jobs.local_machine import machine
from tests.jobs.sweep_files import finish_run, make_sweep
from tests.terminal import Terminal


def test_members_run_a_few_at_a_time_and_each_once(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = machine(tmp_path, packed)
    assert here.feed() == 0
    assert set(here.states().values()) == {"completed"}
    assert here.most_at_once == 2
    assert [started.unit for started in here.started] == [member.run_id for member in here.plan.members]
    first = here.plan.members[0].run_id
    assert json.loads(here.folder.best_file.read_text())["choice"] == first
    said = capsys.readouterr().out
    assert said.endswith(f"best: {here.folder.run(first).path}\npython -m jobs report {here.folder.path}\n")
    assert here.feed() == 0
    assert len(here.started) == 4


def test_what_runs_is_told_with_the_time_that_is_left(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.local.SAY_EVERY_S", 0.0)
    here = machine(tmp_path, packed)
    member = here.plan.members[0]
    run = here.folder.run(member.run_id)
    run.path.mkdir(parents=True)
    row = {"global_step": 10, "train/loss": 0.25, "train/slices_per_second": member.batch_size / 2}
    run.metrics_file.write_text(json.dumps(row) + "\n")
    assert here.feed() == 0
    said = capsys.readouterr().out
    assert f"{member.run_id}: step 10/40, loss 0.25, 60 s left\n" in said
    assert re.search(r"^trial: 0/4 members, \d+ (s|min) left$", said, re.MULTILINE)


def test_on_a_terminal_bars_stand_below_the_lines(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("jobs.local.SAY_EVERY_S", 0.0)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    here = machine(tmp_path, packed)
    member = here.plan.members[0]
    run = here.folder.run(member.run_id)
    run.path.mkdir(parents=True)
    run.metrics_file.write_text(json.dumps({"global_step": 10, "train/loss": 0.25}) + "\n")
    assert here.feed() == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(rf"{member.run_id} [━╸╺]+ step 10/40, loss 0.25", shown)
    assert re.search(r"trial +[━╸╺]+ 0/4 members", shown)
    assert f"{member.run_id}: step" not in shown, "a line that the bar says already"
    assert f"{member.run_id}: completed" in shown
    assert "trial: 4 completed" in shown.rpartition("━")[2]


def test_gpus_are_shared_out_without_overlap(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed, gpus_per_node=2)
    assert here.feed() == 0
    assert {started.share.gpus for started in here.started} == {(0, 1), (2, 3)}


def test_failed_member_stops_no_other_and_is_not_run_again(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = machine(tmp_path, packed)
    bad = here.plan.members[1].run_id
    here.how[bad] = "failed"
    assert here.feed() == 1
    assert here.states()[bad] == "failed"
    assert sorted(here.states().values()) == ["completed", "completed", "completed", "failed"]
    said = capsys.readouterr().out
    assert f"{bad}: failed: the loss is not finite" in said
    assert f"what failed or was lost runs again with: python -m jobs retry {here.folder.path}\n" in said
    assert "cancelled" not in said
    assert here.feed() == 1
    assert len(here.started) == 4


def test_killed_member_is_started_again(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed, slots=4)
    unit = here.plan.members[0].run_id
    here.how[unit] = "killed"
    feeder = threading.Thread(target=here.feed)
    feeder.start()
    while [started.unit for started in here.started].count(unit) < 2:
        time.sleep(0.05)
    here.how[unit] = "completed"
    feeder.join()
    assert here.states()[unit] == "completed"


def test_process_that_ends_before_it_began_is_a_failure_that_names_its_log(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed)
    unit = here.plan.members[0].run_id
    here.how[unit] = "silent"
    assert here.feed() == 1
    row = read_status(here.folder, here.plan)[0]
    assert (row.state, row.reason.startswith("its process ended before it began; see ")) == ("failed", True)


def test_stopped_members_go_on_with_the_same_command(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed)
    for member in here.plan.members:
        here.how[member.run_id] = "long"
    feeder = Feeder(here.folder, (), here.launch)

    def interrupt() -> None:
        while sum(event["event"] == "started" for event in Ledger(here.folder.events_file).read()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        feeder.run()
    feeder.stop()
    assert all(started.done() for started in here.started)
    assert set(here.states().values()) == {"pending"}
    here.how.clear()
    assert here.feed() == 0
    assert set(here.states().values()) == {"completed"}


def test_cancelled_members_stop_or_never_start_and_retry_takes_them_up(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed, slots=1)
    first, second, *_ = units = [member.run_id for member in here.plan.members]
    here.how[first] = "long"
    feeder = threading.Thread(target=here.feed)
    feeder.start()
    while not any(event["event"] == "started" for event in Ledger(here.folder.events_file).read()):
        time.sleep(0.05)
    cancel_units(here.folder, [first, second], by="cancelled by me")
    feeder.join()
    assert here.states() == {unit: "cancelled" if unit in (first, second) else "completed" for unit in units}
    assert {started.unit for started in here.started} == set(units) - {second}


def test_what_is_cancelled_is_said_to_need_its_name(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = machine(tmp_path, packed)
    assert here.feed() == 0
    here.folder.run(here.plan.members[2].run_id).summary_file.unlink()
    unit = here.plan.members[2].run_id
    Ledger(here.folder.events_file).append("cancelled", unit=unit, by="somebody")
    said = f"what was cancelled runs again when it is named: python -m jobs retry {here.folder.path} {unit}\n"
    capsys.readouterr()
    assert here.feed() == 1
    assert said in capsys.readouterr().out
    assert retry_units(here.folder, [], profile=None, wait=False) == 0
    assert said in capsys.readouterr().out


def test_retry_names_what_is_not_to_be_retried(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    finish_run(folder, plan.members[0].run_id)
    with pytest.raises(CommandError, match="is completed; only what failed, was lost or cancelled is run again"):
        retry_units(folder, [plan.members[0].run_id], profile=None, wait=False)


def test_stages_run_in_turn_after_all_members(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed, rest='[pipeline]\nthen = ["extract-codes", "evaluate", "report"]\n')
    assert here.feed() == 0
    assert [started.unit for started in here.started[4:]] == ["extract-codes", "evaluate", "report"]


def test_report_is_written_though_a_stage_failed(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed, rest='[pipeline]\nthen = ["extract-codes", "evaluate", "report"]\n')
    here.how["extract-codes"] = "failed"
    assert here.feed() == 1
    assert [started.unit for started in here.started[4:]] == ["extract-codes", "report"]


def test_threads_of_all_slots_together_are_the_cores(tmp_path: Path, packed: Path) -> None:
    _, plan = make_sweep(tmp_path, packed)
    cores = len(os.sched_getaffinity(0))
    two = replace(plan, profile=Profile(executor="local", array_parallelism=2, tasks_per_node=1))
    assert share_of(two, plan.members[0].run_id, []) == Share((), 1, max(1, cores // 2))
    stage = replace(two, pipeline=(PipelineStage("extract-codes"),))
    assert share_of(stage, "extract-codes", []) == Share((), 1, cores)  # it runs alone


@pytest.mark.parametrize(
    ("profile", "gpus", "expected"),
    [
        (Profile(executor="local", gpus_per_node="auto"), (0, 1, 2), (1, 3)),
        (Profile(executor="local", gpus_per_node="auto", array_parallelism=2), (0, 1, 2), (1, 2)),
        (Profile(executor="local", gpus_per_node=2), (0, 1, 2), (2, 1)),
        (Profile(executor="local", gpus_per_node="auto", array_parallelism=5), (), (0, 5)),
    ],
)
def test_auto_is_what_this_machine_has(profile: Profile, gpus: tuple[int, ...], expected: tuple[int, int]) -> None:
    found = resolve(profile, gpus)
    assert (found.gpus_per_node, found.array_parallelism) == expected


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(CommandError, match="wants 2 GPUs for each member; visible here: 1"):
        resolve(Profile(executor="local", gpus_per_node=2), (0,))


def test_what_is_stopped_before_it_began_goes_on_too(tmp_path: Path, packed: Path) -> None:
    here = machine(tmp_path, packed)
    for member in here.plan.members:
        here.how[member.run_id] = "late"
    feeder = Feeder(here.folder, (), here.launch)
    for member in here.plan.members[:2]:
        here.launch(here.folder, here.plan, member.run_id, Share((), 1, 1))
    feeder.stop()
    assert all(started.done() for started in here.started)
    assert set(here.states().values()) == {"pending"}
    here.how.clear()
    assert here.feed() == 0
