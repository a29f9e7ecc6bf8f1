"""Sweeps on a real Slurm: one submit, several nodes, requeue, preemption, cancel, retry, a thousand members."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from tests.slurm.one_machine import Cluster
from tests.slurm.sweeps import ONE, PATIENCE_S, ROOT, write_profile, write_sweep

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE_S)]


THREE_BY_THREE = """
[grid]
"optim.lr" = [1e-3, 2e-3, 3e-3]
"optim.milestones" = [[0.4], [0.6], [0.8]]
[pipeline]
then = ["extract-codes", "train-pixelcnn", "generate", "report"]
[pipeline.train-pixelcnn]
"schedule.steps" = 10
"schedule.batch_size" = 4
"model.layers" = 3
"model.hidden" = 16
"""


def test_one_submit_trains_an_array_and_ends_with_a_picture_and_a_report(
    cluster: Cluster, data: Path, tmp_path: Path
) -> None:
    sweep = write_sweep(cluster, tmp_path, "grid", data=data, rest=THREE_BY_THREE, profile="one_machine")
    sweep.submit()
    assert len({row["job_id"].partition("_")[0] for row in sweep.members()}) == 1  # one array

    sweep.wait()
    assert sweep.states() == {"completed": 13}, sweep.log()
    best = json.loads((sweep.folder / "best.json").read_text())
    values = {row["run_id"]: row["best"]["value"] for row in sweep.members()}
    assert best["choice"] == max(values, key=values.__getitem__)
    assert (sweep.folder / "pipeline" / best["choice"] / "Pic" / "PixelCNN_generate.jpg").is_file()
    assert (sweep.folder / "report.html").is_file()

    assert "nothing to submit" in sweep.submit()
    assert len(sweep.events("submitted")) == 13


def test_two_nodes_of_two_tasks_train_as_one_process_does(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    alone = write_sweep(cluster, tmp_path, "alone", data=data, rest=ONE, profile=write_profile(tmp_path))
    spread = write_sweep(
        cluster, tmp_path, "spread", data=data, rest=ONE, profile=write_profile(tmp_path, nodes=2, gpus=2)
    )
    for sweep in (alone, spread):
        sweep.submit()
    for sweep in (alone, spread):
        sweep.wait()
        assert sweep.states() == {"completed": 1}, sweep.log()
    (run,) = spread.members()
    assert len(list(spread.folder.glob("logs/*_log.out"))) == 4
    for one, many in zip(alone.metrics(run["run_id"]), spread.metrics(run["run_id"]), strict=True):
        # Only the order in which gradients are summed differs.
        if "train/loss" in one:
            assert math.isclose(one["train/loss"], many["train/loss"], rel_tol=1e-3)


LONG = 400
"""Steps of a run that something happens to: long enough to be still running then."""


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights that a run of LONG steps ends with when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    profile = write_profile(folder, gpus=2)
    sweep = write_sweep(cluster, folder, "undisturbed", data=data, rest=ONE, steps=LONG, profile=profile)
    sweep.submit()
    sweep.wait()
    assert sweep.states() == {"completed": 1}, sweep.log()
    return sweep.weights(sweep.members()[0]["run_id"])


@pytest.mark.parametrize("blow", ["scontrol requeue", "scancel --signal=USR2", "preemption"])
def test_run_put_back_into_the_queue_ends_with_the_same_weights(
    cluster: Cluster, data: Path, tmp_path: Path, undisturbed: bytes, blow: str
) -> None:
    profile = write_profile(tmp_path, gpus=2)
    sweep = write_sweep(cluster, tmp_path, "disturbed", data=data, rest=ONE, steps=LONG, profile=profile)
    (job,) = sweep.submit_and_train(until=30)
    if blow == "preemption":
        node = cluster.run("squeue", "-h", "-j", job, "-o", "%N")
        more_important = ("--partition=high", "--exclusive", f"--nodelist={node}", "--output=/dev/null", "--wrap=true")
        cluster.run("sbatch", *more_important)
    else:
        cluster.run(*blow.split(), job)

    sweep.wait(lambda: len(sweep.events("started")) == 2)
    sweep.wait()
    first, second = sweep.events("started")
    assert second["job_id"] == first["job_id"]
    assert second["step"] >= (10 if blow == "scontrol requeue" else 30)  # a warned run saves where it is
    (row,) = sweep.members()
    assert (row["state"], row["attempts"]) == ("completed", 2), sweep.log()
    assert sweep.weights(row["run_id"]) == undisturbed


def test_cancelled_member_stays_cancelled_and_the_others_complete(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    rest = '[grid]\n"optim.lr" = [1e-3, 2e-3]'
    sweep = write_sweep(cluster, tmp_path, "cancel", data=data, rest=rest, steps=LONG, profile=write_profile(tmp_path))
    sweep.submit_and_train(until=20)
    doomed, other = (row["run_id"] for row in sweep.members())
    sweep.jobs("cancel", "cancel", doomed)
    sweep.wait()
    states = {row["run_id"]: row["state"] for row in sweep.members()}
    assert states == {doomed: "cancelled", other: "completed"}, sweep.log()
    assert "nothing to submit" in sweep.submit()


def test_retry_runs_only_the_failed_member_again(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    rest = '[grid]\n"optim.lr" = [1e-3, 1e30]'
    sweep = write_sweep(cluster, tmp_path, "retry", data=data, rest=rest, profile=write_profile(tmp_path))
    sweep.submit()
    sweep.wait()
    good, bad = sweep.members()
    assert (good["state"], bad["state"], bad["attempts"]) == ("completed", "failed", 1), sweep.log()
    assert "finite" in bad["reason"]
    sweep.jobs("retry", "retry")
    submitted = sweep.events("submitted")
    assert [event["unit"] for event in submitted[2:]] == [bad["run_id"]]
    sweep.wait()
    good, bad = sweep.members()
    assert (good["attempts"], bad["state"], bad["attempts"]) == (1, "failed", 2)


def test_thousand_members_are_submitted_shown_and_cancelled_in_one_go(
    cluster: Cluster, data: Path, tmp_path: Path
) -> None:
    rates = ", ".join(f"{number}e-6" for number in range(1, 1001))
    profile = write_profile(tmp_path, rest='sbatch = {begin = "now+1hour"}')
    sweep = write_sweep(cluster, tmp_path, "many", data=data, rest=f'[grid]\n"optim.lr" = [{rates}]', profile=profile)
    sweep.submit()
    rows = sweep.members()
    assert [row["state"] for row in rows] == ["pending"] * 1000
    (array,) = {row["job_id"].partition("_")[0] for row in rows}
    assert cluster.run("squeue", "-h", "-j", array, "-o", "%i") == f"{array}_[0-999%4]"
    sweep.jobs("cancel", "many")
    assert sweep.states() == {"cancelled": 1000}
    assert not cluster.run("squeue", "-h", "-j", array, "-t", "PENDING,RUNNING")


def test_submit_from_inside_a_job_and_a_path_with_quotes(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "mine" & 100%'
    folder.mkdir()
    sweep = write_sweep(cluster, folder, "nested", data=data, rest=ONE, profile=write_profile(tmp_path))
    command = ["--profile", str(sweep.profile), "--root", str(sweep.root)]
    inside = ("srun", f"--chdir={ROOT}", "--cpus-per-task=2", sys.executable, "-m", "jobs", "submit", str(sweep.file))
    cluster.run(*inside, *command, timeout=PATIENCE_S)
    sweep.wait()
    assert sweep.states() == {"completed": 1}, sweep.log()


def test_training_runs_in_a_plain_allocation(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    train = ["train-vqvae", "--preset", "smoke", "--schedule.steps", "5", "--data.path", str(data)]
    cluster.run(
        *("srun", f"--chdir={ROOT}", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1"),
        *(sys.executable, "-m", "jobs", "run", "--", *train, "--output-dir", str(tmp_path / "run")),
        timeout=PATIENCE_S,
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["state"], summary["step"]) == ("completed", 5)
