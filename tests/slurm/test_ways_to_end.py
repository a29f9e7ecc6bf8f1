"""Ways in which an attempt ends on a real Slurm, and what becomes of the run: a hang, a time limit, a refusal."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.slurm.one_machine import Cluster
from tests.slurm.sweeps import ONE, PATIENCE_S, ROOT, write_profile, write_sweep

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE_S)]

STEPS = 300


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights that a run of STEPS steps on two processes ends with when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    profile = write_profile(folder, gpus=2)
    sweep = write_sweep(cluster, folder, "undisturbed", data=data, rest=ONE, steps=STEPS, profile=profile)
    sweep.submit()
    sweep.wait()
    assert sweep.states() == {"completed": 1}, sweep.log()
    return sweep.weights(sweep.members()[0]["run_id"])


@pytest.mark.parametrize("rank", [0, 1])
def test_member_of_which_a_process_hangs_is_requeued_and_ends_with_the_same_weights(
    cluster: Cluster, data: Path, tmp_path: Path, undisturbed: bytes, rank: int
) -> None:
    rest = f'"runtime.hang_timeout_s" = 5\n{ONE}'
    profile = write_profile(tmp_path, gpus=2)
    sweep = write_sweep(cluster, tmp_path, "hung", data=data, rest=rest, steps=STEPS, profile=profile)
    (job,) = sweep.submit_and_train(until=20)
    os.kill(cluster.ranks_of(job)[rank], signal.SIGSTOP)
    sweep.wait(lambda: len(sweep.events("started")) == 2)
    sweep.wait()
    crashed, completed = sweep.events("ended")
    assert (crashed["state"], crashed["reason"]) == ("crashed", f"process {rank} hangs")
    assert completed["state"] == "completed"
    (row,) = sweep.members()
    assert (row["state"], row["attempts"]) == ("completed", 2), sweep.log()
    assert sweep.weights(row["run_id"]) == undisturbed
    stacks = sweep.folder / "runs" / row["run_id"] / "stacks" / f"rank{1 - rank}.txt"
    assert f"process {rank} hangs" in stacks.read_text()


def test_time_limit_is_a_pause(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    # Slurm signals up to 30 s before the lead: within a limit of one minute a slow start would leave no step before it.
    profile = write_profile(tmp_path, rest="mem_gb = 1.5\ntimeout_min = 2")
    profile.write_text(profile.read_text().replace("signal_lead_s = 60", "signal_lead_s = 10"))
    sweep = write_sweep(cluster, tmp_path, "long", data=data, rest=ONE, steps=1_000_000, profile=profile)
    sweep.submit()
    sweep.wait(lambda: len(sweep.events("started")) == 2)
    first, second = sweep.events("started")
    (ended,) = sweep.events("ended")
    assert (ended["state"], second["job_id"]) == ("stopped", first["job_id"]), sweep.log()
    (row,) = sweep.members()
    logged = max(line["global_step"] for line in sweep.metrics(row["run_id"]) if line["attempt"] == 0)
    assert 10 < logged <= second["step"] < logged + 5  # every fifth step is logged
    sweep.jobs("cancel", "long")
    sweep.wait()


def test_requeue_that_slurm_refuses_is_lost_and_retry_takes_it_up(
    cluster: Cluster, data: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    refusal = tmp_path / "bin" / "scontrol"  # root, who runs the tests in CI, may requeue whatever a site forbids
    refusal.parent.mkdir()
    refusal.write_text("#!/bin/sh\necho 'slurm_requeue error: Requested operation is presently disabled' >&2\nexit 1\n")
    refusal.chmod(0o755)
    profile = write_profile(tmp_path, gpus=2, rest=f"mem_gb = 1.5\nsetup = ['export PATH={refusal.parent}:$PATH']")
    sweep = write_sweep(cluster, tmp_path, "refused", data=data, rest=ONE, steps=STEPS, profile=profile)
    (job,) = sweep.submit_and_train(until=20)
    cluster.run("scancel", "--signal=USR2", job)
    sweep.wait()
    (row,) = sweep.members()
    assert row["state"] == "lost", sweep.log()
    assert row["reason"].startswith("requeue refused")
    sweep.jobs("retry", "refused")
    sweep.wait()
    (row,) = sweep.members()
    assert (row["state"], row["attempts"]) == ("completed", 2), sweep.log()
    assert row["job_id"] != job
    assert sweep.weights(row["run_id"]) == undisturbed


def test_code_that_is_edited_while_jobs_wait_is_not_what_runs(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for package in ("data_tools", "vqvae_dist", "jobs", "slurm"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__", "env.sh"))
    env = ROOT / "slurm" / "one_machine" / "env.sh"
    shutil.copy(env, checkout / "slurm" / "one_machine" / "env.sh")
    profile = write_profile(tmp_path, rest="mem_gb = 1.5\nsbatch = {hold = true}")
    sweep = write_sweep(cluster, tmp_path, "edited", data=data, rest=ONE, profile=profile)
    sweep = dataclasses.replace(sweep, checkout=checkout)
    sweep.submit()
    for file in ("vqvae_dist/training/vqvae.py", "jobs/task.py"):
        (checkout / file).write_text("raise RuntimeError('edited')\n")
    (row,) = sweep.members()
    cluster.run("scontrol", "release", row["job_id"])
    sweep.wait()
    assert sweep.states() == {"completed": 1}, sweep.log()
    assert "another version" not in sweep.log()


@pytest.mark.parametrize("binding", ["node", "task"])
def test_each_process_takes_a_gpu_of_its_own(cluster: Cluster, data: Path, tmp_path: Path, binding: str) -> None:
    profile = write_profile(tmp_path, gpus=2, rest=f'mem_gb = 1.5\ngpu_binding = "{binding}"')
    sweep = write_sweep(cluster, tmp_path, "bound", data=data, rest=ONE, steps=100_000, profile=profile)
    (job,) = sweep.submit_and_train(until=5)
    seen = {}
    for rank, pid in cluster.ranks_of(job).items():
        lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
        values = dict(line.partition("=")[::2] for line in lines)
        seen[rank] = (values["SLURM_LOCALID"], len(values["CUDA_VISIBLE_DEVICES"].split(",")))
    visible = 2 if binding == "node" else 1
    assert seen == {0: ("0", visible), 1: ("1", visible)}
    sweep.jobs("cancel", "bound")
    sweep.wait()
