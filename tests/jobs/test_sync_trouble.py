"""`jobs sync` with a server that is away or says no, and with damaged logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.console import CommandError
from jobs.sync import sync
from tests.jobs.conftest import Sync
from tests.jobs.offline_runs import let_rest, log_of
from tests.wandb_server import KEY, WandbServer
from tests.wandb_server.client import Client, await_end
from tests.wandb_server.whole import faults
from vqvae_dist.run_folder import RunFolder

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
