"""slurm/one_machine: a private Slurm that starts in seconds, schedules like a real one, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.one_machine import Cluster, is_alive, wait_until

pytestmark = pytest.mark.slurm
MakeCluster = Callable[..., Cluster]


@pytest.fixture(scope="module")
def started(make_cluster: MakeCluster) -> tuple[Cluster, float]:
    """A full cluster, and the seconds that its start took from nothing."""
    cluster = make_cluster("--no-hosts")
    began = time.monotonic()
    result = cluster.start()
    assert result.returncode == 0, result.stderr
    return cluster, time.monotonic() - began


@pytest.fixture
def lab(started: tuple[Cluster, float]) -> Iterator[Cluster]:
    """The full cluster, without jobs."""
    cluster, _ = started
    yield cluster
    cluster.run("scancel", "--state=PENDING")
    cluster.run("scancel", "--state=RUNNING")
    wait_until(lambda: not cluster.run("squeue", "-h"), 30)


@pytest.fixture
def small(make_cluster: MakeCluster) -> Cluster:
    """A cluster of two nodes without accounting, running."""
    cluster = make_cluster("--no-hosts", "--no-accounting", "2")
    assert cluster.start().returncode == 0
    return cluster


def test_start_returns_within_15_seconds_with_all_nodes_idle(started: tuple[Cluster, float]) -> None:
    cluster, seconds = started
    assert cluster.run("sinfo", "-h", "-p", "main", "-N", "-o", "%N %T").split("\n") == [
        "n1 idle", "n2 idle", "n3 idle", "n4 idle"
    ]  # fmt: skip
    assert seconds < 15


def test_env_file_works_in_an_empty_environment_under_set_u(lab: Cluster) -> None:
    command = ["env", "-i", "bash", "-uc", 'source "$1"; source "$1"; sinfo -h -o %P; command -v slurmd', "-"]
    printed = subprocess.run([*command, lab.scripts / "env.sh"], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["main*", "low", "high", "/usr/sbin/slurmd"]


@pytest.mark.parametrize(("option", "devices"), [("--gpus-per-node=2", {"0,1"}), ("--gpus-per-task=1", {"0", "1"})])
def test_tasks_on_two_nodes_see_their_gpus(lab: Cluster, option: str, devices: set[str]) -> None:
    task = 'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"'
    lines = lab.run("srun", "-N2", "--ntasks-per-node=2", option, "bash", "-c", task).splitlines()
    seen = [tuple(line.split()) for line in lines]
    assert len(seen) == 4
    assert {gpus for _, gpus in seen} == devices
    assert len({node for node, _ in seen}) == 2


def test_sacct_shows_a_finished_job(lab: Cluster) -> None:
    job = lab.run("sbatch", "--parsable", "--output=/dev/null", "--gpus-per-node=1", "--wrap=exit 7")
    wait_until(lambda: lab.run("sacct", "-X", "-n", "-j", job, "-o", "State,ExitCode").split() == ["FAILED", "7:0"], 30)


REPORT = """#!/bin/bash
# Says what happens to it, each line with the time in seconds.
srun bash -c '
    say() { echo "$1 $EPOCHSECONDS" >>"$0"; }
    trap "say warned; scontrol requeue $SLURM_JOB_ID; exit" USR2
    say "started-${SLURM_RESTART_COUNT:-0}"
    for i in {1..600}; do sleep 0.1; done' "$1"
"""


def test_preempted_job_is_warned_and_soon_runs_again(lab: Cluster, tmp_path: Path) -> None:
    script, said = tmp_path / "job.sh", tmp_path / "said"
    script.write_text(REPORT)
    where = ("--parsable", "--exclusive", "--nodelist=n1", "--output=/dev/null")
    lab.run("sbatch", *where, "--partition=low", "--signal=USR2@30", script, said)
    wait_until(said.exists, 30)
    lab.run("sbatch", *where, "--partition=high", "--wrap=true")
    wait_until(lambda: "started-1" in said.read_text(), 60)
    times = {event: int(at) for event, at in map(str.split, said.read_text().splitlines())}
    # Slurm's own default lets a requeued job wait for two minutes; ten seconds are asked for here.
    assert times["started-1"] - times["warned"] < 60


def test_second_start_in_the_same_folder_is_refused(lab: Cluster) -> None:
    before = lab.daemons()
    result = lab.start()
    assert result.returncode == 1
    assert "already running" in result.stderr
    assert lab.daemons() == before
    assert all(map(is_alive, before.values()))


def test_start_names_a_port_that_is_in_use(lab: Cluster, make_cluster: MakeCluster) -> None:
    port = lab.options[lab.options.index("--ports") + 1]
    other = make_cluster("--ports", port)
    result = other.start()
    assert result.returncode == 1
    assert f"port {port} is in use" in result.stderr
    assert not list(other.state.iterdir())


def test_start_leaves_a_folder_alone_that_is_not_its_own(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    treasure = cluster.state / "thesis.tex"
    treasure.touch()
    assert "holds something else" in cluster.start().stderr
    assert "holds something else" in cluster.stop("--wipe").stderr
    assert list(cluster.state.iterdir()) == [treasure]
    treasure.unlink()


@pytest.mark.parametrize(
    "arguments", [("zero",), ("0",), ("--gpus",), ("--gpus", "-1"), ("--wings", "2"), ("--state", "/tmp/a b")]
)
def test_wrong_arguments_exit_2_in_one_line(make_cluster: MakeCluster, arguments: tuple[str, ...]) -> None:
    result = make_cluster().start(*arguments)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_killed_cluster_starts_again_with_its_history(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("--no-hosts", "1")
    assert cluster.start().returncode == 0
    job = cluster.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=true")
    state = ("sacct", "-X", "-n", "-j", job, "-o", "State")
    wait_until(lambda: cluster.run(*state) == "COMPLETED", 30)
    cluster.kill(*cluster.daemons())
    assert cluster.start().returncode == 0
    assert cluster.run(*state) == "COMPLETED"
    assert cluster.run("srun", "echo", "at work again") == "at work again"


def test_drained_node_is_idle_after_the_next_start(small: Cluster) -> None:
    small.run("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    assert small.stop().returncode == 0
    assert small.start().returncode == 0
    assert small.run("sinfo", "-h", "-p", "main", "-o", "%N %T") == "n[1-2] idle"


def test_repair_starts_what_died_and_keeps_jobs_running(small: Cluster) -> None:
    where = ("--parsable", "--output=/dev/null", "--nodelist=n1", "--job-name=kept")
    job = small.run("sbatch", *where, "--wrap=sleep 300")
    wait_until(lambda: small.run("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING", 30)
    # The controller writes its state down every few seconds; what is younger dies with it.
    saved = small.state / "ctld" / "job_state"
    wait_until(lambda: saved.exists() and b"kept" in saved.read_bytes(), 30)
    before = small.daemons()
    small.kill("slurmctld", "munged", "n2")
    result = small.start("--repair")
    assert result.returncode == 0, result.stderr
    after = small.daemons()
    assert after["n1"] == before["n1"]
    assert all(after[name] != before[name] for name in ("slurmctld", "munged", "n2"))
    assert small.run("squeue", "-h", "-j", job, "-o", "%T %N") == "RUNNING n1"


def test_stop_leaves_nothing_behind_and_ends_only_its_own(make_cluster: MakeCluster, tmp_path: Path) -> None:
    hosts, pids = Path("/etc/hosts").read_text(), tmp_path / "pids"
    cluster = make_cluster("--no-accounting", "2")
    assert cluster.start().returncode == 0
    if os.access("/etc/hosts", os.W_OK):
        assert f"127.0.0.1 n1 n2 # one-machine-slurm {cluster.state}" in Path("/etc/hosts").read_text()
    # A job that ignores being cancelled, with a child that moved out of its session.
    wrap = f"trap '' TERM; setsid sleep 300 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; sleep 300"
    cluster.run("sbatch", "--output=/dev/null", f"--wrap={wrap}")
    wait_until(pids.exists, 30)
    ours = [*cluster.daemons().values(), *map(int, pids.read_text().split())]

    # A user's process that sourced env.sh, whose number a pid file has because slurmd died and numbers come round.
    bystander = subprocess.Popen(["sleep", "300"], env=cluster.env)
    cluster.kill("n2")
    (cluster.state / "run" / "n2.pid").write_text(str(bystander.pid))

    result = cluster.stop("--wipe")
    assert result.returncode == 0, result.stderr
    assert bystander.poll() is None
    bystander.send_signal(signal.SIGKILL)
    bystander.wait()
    assert not any(map(is_alive, ours))
    assert not cluster.state.exists()
    assert not (cluster.scripts / "env.sh").exists()
    assert Path("/etc/hosts").read_text() == hosts


def test_stop_where_nothing_runs_is_no_error(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.state.rmdir()
    assert cluster.stop().returncode == 0


def test_install_does_nothing_where_all_is_there(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    result = cluster.attempt(cluster.scripts / "install.sh")
    assert result.returncode == 0, result.stderr
    assert "is installed" in result.stdout
