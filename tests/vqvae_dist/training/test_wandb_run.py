"""Trainings of one process each with the real client, and a server on 127.0.0.1 that behaves well or badly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.wandb_server import KEY, WandbServer
from tests.wandb_server.client import Client, await_end
from tests.wandb_server.fake_training import RUN_ID, gray
from tests.wandb_server.whole import faults, run_of
from vqvae_dist.run_folder import RunFolder

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "a run [1]")


def logged_steps(run: RunFolder) -> list[int]:
    return [row["global_step"] for row in run.read_metrics()]


def test_online_run_arrives_whole(server: WandbServer, client: Client, run: RunFolder) -> None:
    ended = client.train(run.path, steps=30)
    assert ended.code == 0, ended.errors
    arrived = server.only_run()
    assert arrived.steps == list(range(1, 31))
    assert faults(arrived, run) == []
    assert (arrived.complete, arrived.exit_code) == (True, 0)
    assert (arrived.group, arrived.job_type, arrived.tags) == ("sweep", "train-vqvae", ["fake"])
    assert arrived.display_name == RUN_ID
    assert (arrived.value("optim.lr"), arrived.value("optim.milestones_str")) == (1e-3, "10-20")
    assert (arrived.value("data_digest"), arrived.value("resolved.mixed")) == ("d" * 64, "no")
    assert (arrived.value("attempt.job"), arrived.value("attempt.code")) == ("77", "abc123")
    assert arrived.summary["best/ssim"] == pytest.approx(1 - 1 / 20)
    assert arrived.summary["best/mse"] == pytest.approx(1 / 30)
    assert arrived.summary["run/best.value"] == 1.0
    assert arrived.events, "no system metrics"
    # define_metric: 1 the name or 2 a pattern, 5 its x-axis by number
    axes = arrived.value("_wandb")["m"]
    assert axes[0]["1"] == "global_step"
    assert (axes[1]["2"], axes[1]["5"]) == ("*", 1)


def test_pictures_arrive_with_their_gray_levels(server: WandbServer, client: Client, run: RunFolder) -> None:
    client.train(run.path, steps=20)
    arrived = server.only_run()
    for step, media in arrived.column("images/validate").items():
        assert np.array_equal(arrived.image(media["path"]), gray(step))
    histogram = arrived.column("codes")[20]
    assert sum(histogram["values"]) == sum(range(600))
    assert histogram["bins"][-1] == 600
    animation = arrived.column("animation")[20]
    assert arrived.files[animation["path"]] == (run.path / "animation.gif").read_bytes()


def test_four_members_at_once_are_four_runs_of_one_group(server: WandbServer, client: Client, tmp_path: Path) -> None:
    started = [client.start(tmp_path / f"member{number}", steps=20) for number in range(4)]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    assert len(server.runs) == 4
    for arrived in server.runs.values():
        assert (arrived.group, arrived.steps) == ("sweep", list(range(1, 21)))
        assert faults(arrived, run_of(arrived, tmp_path.glob("member*"))) == []
    for process in started:
        process.communicate()


def test_killed_and_requeued_run_has_each_step_once(server: WandbServer, client: Client, run: RunFolder) -> None:
    killed = client.train(run.path, steps=99, kill_at=27, linger=2)
    assert killed.code == -9
    assert client.train(run.path, steps=40, resume=20, attempt=1).code == 0
    arrived = server.only_run()
    assert arrived.steps == list(range(1, 41))
    assert faults(arrived, run, pictures=False) == []
    assert arrived.summary["best/ssim"] == pytest.approx(1 - 1 / 20)
    assert arrived.value("attempt.number") == 1


def test_rows_that_died_with_the_network_are_sent_by_the_next_attempt(
    server: WandbServer, client: Client, run: RunFolder
) -> None:
    server.failing_streams = 10_000
    assert client.train(run.path, steps=99, kill_at=25, linger=1).code == -9
    server.failing_streams = 0
    assert client.train(run.path, steps=30, resume=20).code == 0
    assert server.only_run().steps == list(range(1, 31))


def test_new_generation_is_another_run(server: WandbServer, client: Client, run: RunFolder) -> None:
    client.train(run.path, steps=10)
    client.train(run.path, steps=10, generation=1)
    assert [arrived.steps for arrived in server.runs.values()] == [list(range(1, 11))] * 2


def test_stopped_run_shows_as_preempted(server: WandbServer, client: Client, run: RunFolder) -> None:
    client.train(run.path, steps=10, end="stopped")
    arrived = server.only_run()
    assert (arrived.preempting, arrived.exit_code) == (True, 1)


@pytest.mark.parametrize("trouble", ["dead", "hanging", "unauthorised", "broken", "no key"])
def test_server_that_fails_at_the_start_costs_no_step(
    server: WandbServer, client: Client, run: RunFolder, trouble: str
) -> None:
    match trouble:
        case "dead":
            server.stop()
        case "hanging":
            server.hang.set()
        case "unauthorised":
            client.environment["WANDB_API_KEY"] = "f" * 40
        case "broken":
            server.status = 500
        case "no key":
            del client.environment["WANDB_API_KEY"]
    ended = client.train(run.path, steps=20, mode="online" if trouble == "dead" else "auto")
    assert ended.code == 0, ended.errors
    assert logged_steps(run) == list(range(1, 21))
    assert "W&B: offline (" in ended.output
    assert ended.timings["start"] < 2.5
    assert ended.timings["slowest_step"] < 2.5
    assert ended.timings["finish"] < 10
    assert list((run.path / "wandb").glob("offline-run-*"))
    assert not any(arrived.rows for arrived in server.runs.values())


@pytest.mark.parametrize("trouble", ["dies", "hangs"])
def test_server_that_fails_in_mid_run_costs_no_step(
    server: WandbServer, client: Client, run: RunFolder, trouble: str
) -> None:
    process = client.start(run.path, steps=60, pause=0.05)
    while not server.runs:
        assert process.poll() is None
    if trouble == "dies":
        server.stop()
    else:
        server.hang.set()
    ended = await_end(process)
    assert ended.code == 0, ended.errors
    assert logged_steps(run) == list(range(1, 61))
    assert ended.timings["slowest_step"] < 2.5
    assert ended.timings["finish"] < 10
    if trouble == "dies":
        server.start()
    server.hang.clear()
    assert client.train(run.path, steps=65, resume=60).code == 0
    assert server.only_run().steps == list(range(1, 66))
    assert faults(server.only_run(), run, pictures=False) == []


def test_attempt_after_an_offline_one_waits_for_sync(server: WandbServer, client: Client, run: RunFolder) -> None:
    client.train(run.path, steps=10, mode="offline")
    ended = client.train(run.path, steps=20, resume=10)
    assert "waits for `python -m jobs sync`" in ended.output
    assert not server.runs


@pytest.mark.parametrize(("site", "folders"), [("disabled", 0), ("offline", 1)])
def test_auto_follows_the_site(client: Client, run: RunFolder, site: str, folders: int) -> None:
    client.environment["WANDB_MODE"] = site
    assert client.train(run.path, steps=10).code == 0
    assert len(list(run.path.glob("wandb/offline-run-*"))) == folders
    assert logged_steps(run) == list(range(1, 11))


def test_stray_variables_do_not_choose_the_run(server: WandbServer, client: Client, run: RunFolder) -> None:
    for name in ("SWEEP_ID", "RUN_ID", "RESUME", "RUN_GROUP", "NAME", "TAGS", "JOB_TYPE"):
        client.environment[f"WANDB_{name}"] = "never"
    assert client.train(run.path, steps=10).code == 0
    arrived = server.only_run()
    assert arrived.name.startswith("0123abcd-")
    assert "never" not in (arrived.group, arrived.display_name, arrived.job_type, *arrived.tags)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_key_is_nowhere_in_the_run_folder_or_the_log(client: Client, run: RunFolder, mode: str) -> None:
    ended = client.train(run.path, steps=20, mode=mode)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in ended.output + ended.errors


def test_machine_without_wandb_trains(client: Client, run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise ImportError('none here')")
    client.environment["PYTHONPATH"] = str(tmp_path)
    ended = client.train(run.path, steps=10)
    assert ended.code == 0, ended.errors
    assert ended.errors.count("wandb is not installed") == 1
    assert logged_steps(run) == list(range(1, 11))
