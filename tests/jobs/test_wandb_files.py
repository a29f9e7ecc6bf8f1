"""The W&B client's log format, read and written; and attempts of a run as one log. No client runs here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_tools.console import CommandError
from jobs.sync_live import Relay
from jobs.wandb_files import (
    BLOCK,
    HEADER,
    AttemptFolder,
    TornError,
    find_attempts,
    frame,
    new_record,
    read_pieces,
    read_records,
)
from jobs.wandb_merge import global_step, history_row, last_step, merge, merge_rows
from jobs.wandb_upload import find_runs, name_damage

RUN_ID = "0123abcd-01234567"
SIZES = st.lists(st.sampled_from([0, 1, 100, BLOCK - 14, BLOCK - 8, BLOCK - 7, BLOCK, 3 * BLOCK]), max_size=6)


def read_all(content: bytes) -> tuple[list[bytes], bool]:
    found = []
    try:
        for piece in read_pieces(content):
            found.append(piece)
    except TornError:
        return found, True
    return found, False


@given(SIZES)
def test_log_reads_back(sizes: list[int]) -> None:
    records = [bytes([number]) * size for number, size in enumerate(sizes)]
    assert read_all(frame(records)) == (records, False)


@given(SIZES, SIZES)
def test_log_may_be_written_in_parts(first: list[int], second: list[int]) -> None:
    begun = frame(bytes(size) for size in first)
    whole = begun + frame((bytes(size) for size in second), position=len(begun))
    assert whole == frame(bytes(size) for size in first + second)


@given(SIZES, st.floats(0, 1))
@example([100, 100], 0.0)
def test_cut_log_gives_the_whole_records_before_the_cut(sizes: list[int], share: float) -> None:
    records = [bytes([number]) * size for number, size in enumerate(sizes)]
    whole = frame(records)
    cut = round(share * len(whole))
    found, torn = read_all(whole[:cut])
    assert found == records[: len(found)]
    kept = frame(found)
    assert torn or (whole.startswith(kept) and not any(whole[len(kept) : cut]))  # the rest is padding


def test_damaged_byte_ends_the_log_there() -> None:
    content = bytearray(frame([b"first", b"second", b"third"]))
    content[content.index(b"second")] ^= 1
    assert read_all(bytes(content)) == ([b"first"], True)


def test_header_alone_is_an_empty_log() -> None:
    assert read_all(HEADER) == ([], False)


def history(step: int, **values: Any) -> Any:
    record = new_record()
    for key, value in {"global_step": step, **values}.items():
        record.history.item.add(nested_key=key.split("__"), value_json=json.dumps(value))
    return record


def start(resume_step: int, **more: int) -> Any:
    record = new_record()
    record.run.run_id = RUN_ID
    record.run.config.update.add(key="attempt.resume_step", value_json=str(resume_step))
    for key, value in more.items():
        record.run.config.update.add(key=key.replace("__", "."), value_json=str(value))
    return record


def end(code: int) -> Any:
    record = new_record()
    record.exit.exit_code = code
    return record


def make_attempt(wandb: Path, number: int, *records: Any, online: bool = False) -> AttemptFolder:
    path = wandb / f"{'' if online else 'offline-'}run-20260101_00000{number}-{RUN_ID}"
    path.mkdir(parents=True)
    (path / f"run-{RUN_ID}.wandb").write_bytes(frame(record.SerializeToString() for record in records))
    return find_attempts(wandb)[RUN_ID][-1]


def steps_of(records: list[Any]) -> list[int]:
    return [step for record in records if (step := global_step(history_row(record))) is not None]


def test_attempts_are_found_in_order_whether_online_or_not(tmp_path: Path) -> None:
    (tmp_path / "latest-run").symlink_to(tmp_path / "nowhere")
    make_attempt(tmp_path, 2, start(0), online=True)
    make_attempt(tmp_path, 1, start(0))
    (tmp_path / "debug.log").touch()
    found = find_attempts(tmp_path)
    assert [(attempt.started, attempt.online) for attempt in found[RUN_ID]] == [
        ("20260101_000001", False),
        ("20260101_000002", True),
    ]


def test_marker_counts_only_while_the_log_has_its_size(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, 1, start(0))
    sent = [attempt.sent]
    attempt.mark_sent()
    sent.append(attempt.sent)
    attempt.log.write_bytes(attempt.log.read_bytes() + b"more")
    sent.append(attempt.sent)
    attempt.marker.write_text("")  # the client's own
    sent.append(attempt.sent)
    assert sent == [False, True, False, True]


def test_attempts_follow_each_other_as_they_were_counted_whatever_the_clock_said(tmp_path: Path) -> None:
    make_attempt(tmp_path, 3, start(0, attempt__index=0), history(1), history(2))
    make_attempt(tmp_path, 2, start(1, attempt__index=1), history(2))  # the clock went back
    make_attempt(tmp_path, 4, start(0))  # of before attempts were counted
    assert [attempt.started[-1] for attempt in find_attempts(tmp_path)[RUN_ID]] == ["4", "3", "2"]


def test_metrics_belong_to_the_newest_generation_whatever_the_clock_said(tmp_path: Path) -> None:
    wandb = tmp_path / "wandb"
    make_attempt(wandb, 5, start(0, generation=0))
    later = make_attempt(wandb, 4, start(0, generation=1))
    later.log.rename(later.path / "run-other.wandb")
    later.path.rename(wandb / "offline-run-20260101_000004-other")
    assert {run.id: run.newest for run in find_runs(tmp_path)} == {RUN_ID: False, "other": True}


def test_a_record_that_is_none_ends_the_log_there(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, 1, start(0))
    attempt.log.write_bytes(frame([start(0).SerializeToString(), b"\xff" * 9, start(0).SerializeToString()]))
    assert (len(attempt.records), attempt.torn) == (1, True)


@pytest.mark.parametrize("content", [b"yes", b"\xff\xfe", b"1e3", b"-5", b"9" * 5000])
def test_a_damaged_marker_is_named_and_does_not_count(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt = make_attempt(tmp_path / "wandb", 1, start(0))
    attempt.marker.write_bytes(content)
    assert not attempt.sent
    (run,) = find_runs(tmp_path)
    name_damage(run)
    assert f"{attempt.marker}: damaged" in capsys.readouterr().err


def test_later_attempt_wins_and_cuts_what_it_did_again(tmp_path: Path) -> None:
    first = make_attempt(tmp_path, 1, start(0), *(history(step, by=1) for step in (1, 2, 3, 4)))
    second = make_attempt(tmp_path, 2, start(2), *(history(step, by=2) for step in (3,)))
    rows = merge_rows([first, second], [])
    assert {step: row["by",] for step, row in rows.items()} == {1: "1", 2: "1", 3: "2"}


def test_values_of_one_step_are_one_row(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, 1, start(0), history(1, loss=0.5), history(1, picture__path="a.png"))
    (row,) = merge_rows([attempt], [{"global_step": 1, "loss": 9.0, "lr": 0.1, "none": None}]).values()
    assert row == {("global_step",): "1", ("loss",): "0.5", ("picture", "path"): '"a.png"', ("lr",): "0.1"}


HOSTILE = ["null", '"x"', "[1]", "{}", "", "1e400", "9" * 5000, "NaN", "Infinity", "true", "1.5", "-5", "1e3", "٣"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_step_that_is_none_is_an_error_that_names_the_log(tmp_path: Path, text: str) -> None:
    damaged = history(2)
    damaged.history.item[0].value_json = text
    attempt = make_attempt(tmp_path, 1, start(0), history(1), damaged)
    with pytest.raises(CommandError, match="global_step must be a whole number from 0") as refusal:
        merge([attempt], [], after=-1)
    assert str(refusal.value).startswith(f"{attempt.log}: damaged")
    assert len(str(refusal.value)) < len(str(attempt.log)) + 200


def test_a_damaged_row_in_a_log_that_is_followed_ends_its_relay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt = make_attempt(tmp_path / "wandb", 1, start(0), history(1))
    (run,) = find_runs(tmp_path)
    server = Mock(last_step=lambda **_: -1)
    relay = Relay(run, server, tmp_path)
    assert relay.pump()
    damaged = history(2)
    damaged.history.item[0].value_json = "null"
    records = [start(0), history(1), damaged]
    attempt.log.write_bytes(frame(record.SerializeToString() for record in records))
    assert not relay.pump()
    assert not relay.pump()
    assert capsys.readouterr().err.count(f"not followed any more: {attempt.log}: damaged") == 1
    sent = read_records(relay.upload.log.read_bytes())[0]
    assert (steps_of(sent), sent[-1].exit.exit_code) == ([1], 1)


def test_a_whole_number_may_be_written_as_a_float(tmp_path: Path) -> None:
    record = history(0)
    record.history.item[0].value_json = "3.0"
    assert list(merge_rows([make_attempt(tmp_path, 1, start(0), record)], [])) == [3]


def test_merged_log_has_only_what_the_server_lacks_and_one_end(tmp_path: Path) -> None:
    first = make_attempt(tmp_path, 1, start(0), history(1), history(2), end(1))
    second = make_attempt(tmp_path, 2, start(2), history(3), end(0))
    metrics = [{"global_step": step, "time": 5.0} for step in (1, 2, 3, 4)]
    records = merge([first, second], metrics, after=1)
    assert steps_of(records) == [2, 3, 4]
    assert [record.history.step.num for record in records if record.HasField("history")] == [0, 1, 2]
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    assert sum(record.HasField("run") for record in records) == 1
    assert last_step(records, -1) == 4
    assert not any(record.HasField("exit") for record in merge([first, second], [], after=1, with_exit=False))


def test_attempt_that_was_sent_gives_its_files_no_second_time(tmp_path: Path) -> None:
    files = new_record()
    files.files.files.add(path="media/a.png")
    attempt = make_attempt(tmp_path, 1, start(0), files)
    assert sum(record.HasField("files") for record in merge([attempt], [], after=-1)) == 1
    attempt.mark_sent()
    assert sum(record.HasField("files") for record in merge([attempt], [], after=-1)) == 0


@pytest.mark.parametrize("content", [b"", HEADER, b"not a log at all"])
def test_attempt_without_a_start_has_no_run(tmp_path: Path, content: bytes) -> None:
    attempt = make_attempt(tmp_path, 1)
    attempt.log.write_bytes(content)
    assert (attempt.run, attempt.records, attempt.resume_step) == (None, [], 0)
