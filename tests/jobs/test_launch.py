from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.console import CommandError
from jobs.config import Profile
from jobs.executors import array_executors, sbatch_text, split_array, stage_executor
from jobs.launch import cancel_orphans, submit_arrays
from jobs.ledger import Ledger, open_submissions
from jobs.pipeline import PipelineStage
from jobs.status import read_status
from tests.jobs.sweep_files import make_sweep
from tests.jobs.test_slurm_query import fake_program

SLURM = Profile(
    executor="slurm",
    partition="gpu",
    nodes=2,
    gpus_per_node=4,
    cpus_per_task=8,
    mem_gb=1.5,
    timeout_min=90,
    array_parallelism=3,
    signal_lead_s=120,
    setup=("module load cuda",),
    env={"A": "it's"},
    sbatch={"exclude": "n[1-2]"},
)


@given(st.integers(1, 5000), st.integers(1, 1001), st.integers(1, 300))
def test_parts_cover_the_array_once_and_keep_the_cap_over_all(count: int, size: int, parallelism: int) -> None:
    parts = split_array(count, size=size, parallelism=parallelism)
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(count))
    assert all(part.stop - part.start <= size and part.parallelism >= 1 for part in parts)
    if parts[0].in_turn:
        assert len(parts) > parallelism
        assert {part.parallelism for part in parts} == {parallelism}
    else:
        assert sum(part.parallelism for part in parts) == parallelism


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands, faked: a controller that allows arrays of 3 and counts up."""
    folder = tmp_path / "bin"
    fake_program(folder, "srun", "exit 1")
    fake_program(folder, "scontrol", "echo 'MaxArraySize            = 3'")
    fake_program(
        folder,
        "sbatch",
        f"cp \"$1\" {tmp_path}/sbatch.$((n=$(ls {tmp_path} | grep -c '^sbatch') + 10)); echo Submitted batch job $n",
    )
    fake_program(folder, "squeue", f"cat {tmp_path}/squeue 2>/dev/null")
    fake_program(folder, "sacct", "exit 1")
    fake_program(folder, "scancel", f'echo "$@" >> {tmp_path}/scancel')
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_sbatch_file_asks_for_a_process_a_gpu(tmp_path: Path, packed: Path, programs: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, profile=SLURM)
    _, executor = next(array_executors(folder, plan, 3, code=Path("/code here")))
    lines = sbatch_text(executor, 3).splitlines()
    for line in (
        *("#SBATCH --array=0-2%3", "#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gpus-per-node=4"),
        *("#SBATCH --cpus-per-task=8", "#SBATCH --mem=6144M", "#SBATCH --time=90", "#SBATCH --signal=USR2@120"),
        *("#SBATCH --requeue", "#SBATCH --partition=gpu", "#SBATCH --exclude='n[1-2]'"),
        *("module load cuda", "export A='it'\"'\"'s'", "export PYTHONSAFEPATH=1"),
    ):
        assert line in lines, line
    (srun,) = [line for line in lines if line.startswith("srun ")]
    assert "--cpus-per-task=8 --kill-on-bad-exit=1" in srun
    assert any(re.match(r"export PYTHONPATH='/code here'?", line) for line in lines)


def test_bound_gpus_are_asked_for_by_task(tmp_path: Path, packed: Path, programs: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, profile=replace(SLURM, gpu_binding="task"))
    _, executor = next(array_executors(folder, plan, 2, code=tmp_path))
    text = sbatch_text(executor, 2)
    assert "--gpus-per-node" not in text
    assert text.count("--gpus-per-task=1") == 2  # of sbatch and of srun


@pytest.mark.parametrize(("name", "tasks", "gpus"), [("train-pixelcnn", 4, 4), ("generate", 1, 1), ("report", 1, None)])
def test_stage_takes_what_it_can_use(
    tmp_path: Path, packed: Path, programs: Path, name: str, tasks: int, gpus: int | None
) -> None:
    folder, plan = make_sweep(tmp_path, packed, profile=SLURM)
    stage = PipelineStage(name, resources={"timeout_min": 7})
    text = sbatch_text(stage_executor(folder, plan, stage, after="afterok:5", code=tmp_path), 1)
    assert f"--ntasks-per-node={tasks}\n" in text
    assert (f"--gpus-per-node={gpus}\n" in text) if gpus else ("gpus" not in text)
    assert "--time=7\n" in text
    assert "--dependency=afterok:5" in text


def test_long_array_is_split_and_every_element_written_down(tmp_path: Path, packed: Path, programs: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed, profile=SLURM)
    units = [member.run_id for member in plan.members]
    assert submit_arrays(folder, plan, units, code=tmp_path) == ["10", "11"]
    assert [row.job_id for row in read_status(folder, plan)] == ["10_0", "10_1", "10_2", "11"]
    assert "--array=0-2%2" in (tmp_path / "sbatch.10").read_text()
    assert "--array" not in (tmp_path / "sbatch.11").read_text()


def test_refused_submission_leaves_nothing_open(tmp_path: Path, packed: Path, programs: Path) -> None:
    fake_program(programs, "sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    folder, plan = make_sweep(tmp_path, packed, profile=SLURM)
    with pytest.raises(CommandError, match="invalid partition specified"):
        submit_arrays(folder, plan, ["a"], code=tmp_path)
    events = Ledger(folder.events_file).read()
    assert open_submissions(events) == []
    assert not [event for event in events if event["event"] == "submitted"]


def test_jobs_of_a_submission_that_was_killed_are_found_and_cancelled(
    tmp_path: Path, packed: Path, programs: Path
) -> None:
    folder, plan = make_sweep(tmp_path, packed, profile=SLURM)
    Ledger(folder.events_file).append("submitting", nonce="abc", units=4)
    (tmp_path / "squeue").write_text("31|vqvae-jobs:trial:abc\n32|(null)\n33|vqvae-jobs:trial:other\n")
    assert cancel_orphans(folder, plan) == 1
    assert (tmp_path / "scancel").read_text() == "31\n"
    assert cancel_orphans(folder, plan) == 0


def test_submission_cleans_the_environment_and_restores_it(
    tmp_path: Path, packed: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPU_BIND", "mask")
    fake_program(programs, "sbatch", f"env > {tmp_path}/environment; echo Submitted batch job 5")
    folder, plan = make_sweep(tmp_path, packed, profile=replace(SLURM, slurm_conf="/some/slurm.conf"))
    submit_arrays(folder, plan, ["a"], code=tmp_path)
    environment = (tmp_path / "environment").read_text()
    assert "SLURM_CPU_BIND" not in environment
    assert "SLURM_CONF=/some/slurm.conf" in environment
    assert os.environ["SLURM_CPU_BIND"] == "mask"


def test_missing_slurm_is_said(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder, plan = make_sweep(tmp_path, packed, profile=SLURM)
    with pytest.raises(CommandError, match="is Slurm on this machine"):
        submit_arrays(folder, plan, ["a"], code=tmp_path)
