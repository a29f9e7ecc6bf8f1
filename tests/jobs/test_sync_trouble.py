"""`jobs sync` with a server that is away or says no, and with damaged logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_tools.console import CommandError
from jobs.sync import sync
from jobs.sync_live import follow
from jobs.wandb_files import frame, read_records
from tests.jobs.conftest import Sync
from tests.jobs.offline_runs import let_rest, log_of, train_and_kill
from tests.wandb_server import KEY, WandbServer
from tests.wandb_server.client import Client, await_end
from tests.wandb_server.whole import faults
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.wandb_server import WandbServer as WandbServerAt

pytestmark = pytest.mark.slow


def test_server_that_died_in_mid_run_gets_the_rest(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    run = sweep / "runs" / "member"
    process = client.start(run, steps=60, pause=0.05)
    while not (server.runs and server.only_run().rows):
        assert process.poll() is None
    server.stop()
    assert await_end(process).code == 0
    assert run_sync().returncode == 1
    server.start()
    assert run_sync().returncode == 0
    arrived = server.only_run()
    assert len(arrived.steps) == 60
    assert faults(arrived, RunFolder(run)) == []


@pytest.mark.parametrize("trouble", ["dead", "unauthorised"])
def test_run_that_no_server_took_at_its_start_is_sent_whole(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync, trouble: str
) -> None:
    run = sweep / "runs" / "member"
    if trouble == "dead":
        server.stop()
    else:
        client.environment["WANDB_API_KEY"] = "f" * 40
    assert client.train(run, steps=30).code == 0
    done = run_sync()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if trouble == "dead":
        server.start()
    client.environment["WANDB_API_KEY"] = KEY
    assert run_sync().returncode == 0
    assert len(server.only_run().steps) == 30
    assert faults(server.only_run(), RunFolder(run)) == []


def test_damaged_logs_are_named_and_do_not_stop_the_rest(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    runs = {name: sweep / "runs" / name for name in ("empty", "healthy", "torn")}
    for run in runs.values():
        client.train(run, steps=30, mode="offline")
    empty, torn = log_of(runs["empty"]), log_of(runs["torn"])
    empty.write_bytes(empty.read_bytes()[:7])
    torn.write_bytes(torn.read_bytes()[:-400])
    for run in runs.values():
        let_rest(run)
    done = run_sync()
    assert done.returncode == 0
    assert f"{empty}: empty" in done.stderr
    assert f"{torn}: cut or damaged in a record" in done.stderr
    assert "3 of 3" in done.stdout
    assert len(server.runs) == 2
    again = run_sync()
    assert (again.returncode, again.stderr) == (0, "")
    assert [arrived.steps for arrived in server.runs.values()] == [list(range(1, 31))] * 2


def test_a_run_that_cannot_be_sent_is_named_and_stops_no_other(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    runs = {name: sweep / "runs" / name for name in ("hostile", "unmarkable", "healthy")}
    for run in runs.values():
        client.train(run, steps=5, mode="offline")
    log, marker = log_of(runs["hostile"]), log_of(runs["unmarkable"]).with_suffix(".wandb.synced")
    log.write_bytes(frame(record.SerializeToString() for record in with_steps(log, "null")))
    marker.mkdir()
    for run in runs.values():
        let_rest(run)
    done = run_sync()
    assert done.returncode == 1
    assert f"{log}: damaged, global_step must be a whole number from 0 in every row, got 'null'" in done.stderr
    assert f"{marker}: Is a directory" in done.stderr
    assert ("--debug" in done.stderr, "Traceback" in done.stderr) == (False, False)
    assert "1 of 3 runs are at" in done.stdout
    assert [arrived.steps for arrived in server.runs.values()] == [list(range(1, 6))] * 2


def with_steps(log: Path, text: str) -> list[Any]:
    """The records of a log, each row's step replaced."""
    records, _ = read_records(log.read_bytes())
    for record in records:
        for item in record.history.item:
            if [*item.nested_key] in ([], ["global_step"]) and item.key in ("", "global_step"):
                item.value_json = text
    return records


def test_a_run_that_cannot_be_followed_stops_no_other(
    server: WandbServer,
    client: Client,
    sweep: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in client.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jobs.sync_live.EVERY_S", 0.2)
    monkeypatch.setattr("jobs.wandb_files.QUIET_S", 8)
    for name in ("hostile", "healthy"):
        train_and_kill(client, sweep / "runs" / name, logged=5)
    log = log_of(sweep / "runs" / "hostile")
    log.write_bytes(frame(record.SerializeToString() for record in with_steps(log, "[1]")))
    follow(sweep, WandbServerAt(server.url, KEY))
    error = capsys.readouterr().err
    assert "not followed" in error
    assert f"{log}: damaged, global_step must be" in error
    assert server.only_run().steps[:5] == list(range(1, 6))


def test_what_the_server_did_not_take_is_left_and_sent_later(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    client.train(sweep / "runs" / "member", steps=10, mode="offline")
    server.stop()
    done = run_sync()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "can't be reached" in done.stderr
    server.start()
    client.environment["WANDB_API_KEY"] = "f" * 40
    assert "does not take the key" in run_sync().stderr
    client.environment["WANDB_API_KEY"] = KEY
    assert run_sync().returncode == 0
    assert server.only_run().steps == list(range(1, 11))


def test_folder_without_tracked_runs_is_an_error(sweep: Path) -> None:
    with pytest.raises(CommandError, match="nothing was tracked"):
        sync(sweep)
