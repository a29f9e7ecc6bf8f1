"""Trainings without a network, then `jobs sync` with the real client against a server on 127.0.0.1."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.wandb_files import find_attempts
from tests.jobs.conftest import Sync
from tests.jobs.offline_runs import let_rest, train_and_kill
from tests.wandb_server import KEY, WandbServer
from tests.wandb_server.client import REPOSITORY, Client, await_end, clean_environment
from tests.wandb_server.whole import faults, run_of
from vqvae_dist.run_folder import RunFolder

pytestmark = pytest.mark.slow


def test_offline_sweep_is_sent_once_however_often(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    started = [client.start(sweep / "runs" / f"member{number}", steps=30, mode="offline") for number in range(4)]
    assert [await_end(process).code for process in started] == [0] * 4
    assert not server.runs
    for _ in range(2):
        done = run_sync()
        assert done.returncode == 0, done.stderr
        assert "4 of 4 runs are at" in done.stdout
        assert len(server.runs) == 4
        for arrived in server.runs.values():
            assert len(arrived.steps) == 30
            assert (arrived.group, arrived.job_type, arrived.exit_code) == ("sweep", "train-vqvae", 0)
            assert arrived.value("optim.milestones_str") == "10-20"
            assert arrived.summary["best/ssim"] == pytest.approx(1 - 1 / 20)
            assert arrived.summary["global_step"] == 30
            assert faults(arrived, run_of(arrived, (sweep / "runs").iterdir())) == []
    assert server.operations.count("CreateRunFiles") < 30
    assert KEY not in done.stdout + done.stderr


def test_killed_and_requeued_run_has_each_step_once(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    run = sweep / "runs" / "member"
    train_and_kill(client, run, logged=21)
    train_and_kill(client, run, logged=31, resume=20, attempt=1)
    client.train(run, steps=50, resume=30, attempt=2, mode="offline")
    assert run_sync().returncode == 0
    arrived = server.only_run()
    assert arrived.steps == list(range(1, 51))
    assert {arrived.column("attempt")[step] for step in range(1, 21)} == {0}
    assert {arrived.column("attempt")[step] for step in range(31, 51)} == {2}
    assert faults(arrived, RunFolder(run)) == []
    assert [row["_step"] for row in arrived.rows] == list(range(50))


def test_rows_that_a_kill_kept_from_the_log_come_from_metrics(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync
) -> None:
    run = sweep / "runs" / "member"
    client.train(run, steps=99, pause=0.05, kill_at=80, mode="offline")  # killed at once: nothing is flushed
    let_rest(run)
    assert run_sync().returncode == 0
    assert server.only_run().steps == list(range(1, 81))


def test_run_goes_on_after_a_sync(server: WandbServer, client: Client, sweep: Path, run_sync: Sync) -> None:
    run = sweep / "runs" / "member"
    train_and_kill(client, run, logged=21)
    let_rest(run)
    assert run_sync().returncode == 0
    assert server.only_run().steps == list(range(1, 29))
    client.train(run, steps=40, resume=20, attempt=1, mode="offline")
    assert run_sync().returncode == 0
    assert server.only_run().steps == list(range(1, 41))
    assert client.train(run, steps=50, resume=40, attempt=2).code == 0  # and online
    assert run_sync().returncode == 0
    assert server.only_run().steps == list(range(1, 51))


def test_running_training_is_left_for_later(server: WandbServer, client: Client, sweep: Path, run_sync: Sync) -> None:
    train_and_kill(client, sweep / "runs" / "member", logged=1)
    done = run_sync()
    assert done.returncode == 1
    assert "still writes" in done.stdout
    assert not server.runs


@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_running_training_is_followed_live(
    server: WandbServer, client: Client, sweep: Path, run_sync: Sync, end: str
) -> None:
    run = sweep / "runs" / "member"
    train_and_kill(client, run, logged=21)
    process = client.start(run, steps=60, resume=20, pause=0.1, mode="offline", attempt=1, hang=True)
    while len(list(run.glob("wandb/offline-run-*"))) < 2 or not find_attempts(run / "wandb").popitem()[1][-1].run:
        assert process.poll() is None
    client.environment["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, str(sweep)],
        cwd=REPOSITORY,
        env=clean_environment() | client.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not server.runs or 60 not in server.only_run().steps:
        assert process.poll() is None
        assert follower.poll() is None
        time.sleep(0.1)
    arrived = server.only_run()
    assert not arrived.complete
    if end == "is killed":
        process.kill()
    else:
        (run / "go").touch()
    await_end(process)
    ended = await_end(follower)
    assert ended.code == 0, ended.errors
    for _ in range(2):
        assert arrived.steps == list(range(1, 61))
        assert sorted(arrived.column("images/validate")) == list(range(10, 61, 10))
        assert (arrived.complete, arrived.exit_code) == (True, 1 if end == "is killed" else 0)
        assert run_sync().returncode == 0


FOLLOW = """
import sys
from pathlib import Path
import jobs.sync, jobs.sync_live, jobs.wandb_files
jobs.sync_live.EVERY_S = 0.5
jobs.wandb_files.QUIET_S = 20  # the client writes system metrics every 15 s
sys.exit(jobs.sync.sync(Path(sys.argv[1]), live=True))
"""


def test_single_run_folder_is_sent(server: WandbServer, client: Client, sweep: Path, run_sync: Sync) -> None:
    run = sweep / "runs" / "member"
    client.train(run, steps=10, mode="offline")
    assert run_sync(folder=run).returncode == 0
    assert server.only_run().steps == list(range(1, 11))
