"""The drill: a sweep on a cluster where everything goes wrong that does go wrong on clusters."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.one_machine import Cluster, end, is_alive, wait_until
from tests.slurm.sweeps import ONE, PATIENCE_S, Sweep, write_profile, write_sweep

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE_S)]

NINE = """
"tracking.mode" = "offline"
[grid]
"optim.lr" = [1e-3, 2e-3, 3e-3]
"optim.milestones" = [[0.4], [0.6], [0.8]]
"""


@pytest.fixture(scope="module")
def lab(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster of four nodes that may be broken."""
    cluster = make_cluster()
    result = cluster.start()
    assert result.returncode == 0, result.stderr
    return cluster


def a_node_each(folder: Path) -> Path:
    """A profile by whose memory each member has a node to itself."""
    return write_profile(folder, rest="mem_gb = 5")


def test_sweep_survives_preemption_requeue_a_dead_node_a_cancel_and_a_new_controller(
    lab: Cluster, data: Path, tmp_path: Path
) -> None:
    profile = a_node_each(tmp_path)
    quiet, rough = (
        write_sweep(lab, tmp_path, name, data=data, rest=NINE, steps=400, profile=profile)
        for name in ("quiet", "rough")
    )
    quiet.submit()
    quiet.wait()
    assert quiet.states() == {"completed": 9}, quiet.log()

    preempted, struck, requeued, cancelled = rough.submit_and_train(until=30, first=4)
    node = {job: lab.run("squeue", "-h", "-j", job, "-o", "%N") for job in (preempted, struck)}
    where = ("--partition=high", "--exclusive", f"--nodelist={node[preempted]}", "--output=/dev/null")
    lab.run("sbatch", *where, "--wrap=true")
    lab.lose_power(node[struck])
    lab.run("scontrol", "requeue", requeued)
    lab.run("scancel", cancelled)

    rough.wait(lambda: "down" in lab.run("sinfo", "-h", "-n", node[struck], "-p", "low", "-o", "%T"))
    end(lab.daemons()["slurmctld"], signal.SIGTERM)
    assert lab.start("--repair").returncode == 0
    rough.wait()

    rows = rough.members()
    survivors = rows[:3] + rows[4:]
    assert [row["state"] for row in survivors] == ["completed"] * 8, rough.log()
    assert rows[3]["state"] == "cancelled"
    assert [row["attempts"] for row in rows] == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    for row in survivors:
        assert rough.weights(row["run_id"]) == quiet.weights(row["run_id"])
        assert len(wandb_ids(rough, row["run_id"])) == 1
    assert len(rough.events("submitted")) == 9
    assert not lab.run("squeue", "-h")


def wandb_ids(sweep: Sweep, run_id: str) -> set[str]:
    """The ids of the W&B runs that a member left, each in a folder offline-run-TIME-ID of every attempt."""
    folders = (sweep.folder / "runs" / run_id / "wandb").glob("offline-run-*")
    return {folder.name.split("-", 3)[3] for folder in folders}


def test_attempt_that_its_cluster_lost_sight_of_ends_when_the_next_one_takes_over(
    lab: Cluster, data: Path, tmp_path: Path
) -> None:
    sweep = write_sweep(lab, tmp_path, "twice", data=data, rest=ONE, steps=100_000, profile=a_node_each(tmp_path))
    (job,) = sweep.submit_and_train(until=10)
    node = lab.run("squeue", "-h", "-j", job, "-o", "%N")
    (old,) = lab.training_on(node)
    # Without its slurmd a node counts as dead, and the job starts elsewhere; but the training on it goes on.
    lab.kill(node)
    lab.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        sweep.wait(lambda: len(sweep.events("started")) == 2)
        assert is_alive(old)
        wait_until(lambda: not is_alive(old), PATIENCE_S)
        taken_over_at = sweep.step(run_id := sweep.members()[0]["run_id"])
        sweep.wait(lambda: sweep.step(run_id) > taken_over_at + 20)
        sweep.jobs("cancel", "twice")
        sweep.wait()
    finally:
        assert lab.start("--repair").returncode == 0
    steps = [line["global_step"] for line in sweep.metrics(run_id)]
    assert steps == sorted(set(steps))


def test_submit_status_and_results_work_without_accounting(lab: Cluster, data: Path, tmp_path: Path) -> None:
    lab.kill("slurmdbd", "mariadbd")
    try:
        sweep = write_sweep(lab, tmp_path, "unrecorded", data=data, rest=ONE, profile=a_node_each(tmp_path))
        sweep.submit()
        sweep.wait()
        assert sweep.states() == {"completed": 1}, sweep.log()
        assert sweep.members()[0]["run_id"] in sweep.jobs("best", "unrecorded")
    finally:
        assert lab.start("--repair").returncode == 0
