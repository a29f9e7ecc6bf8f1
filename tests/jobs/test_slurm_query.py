from __future__ import annotations

from pathlib import Path

import pytest

from jobs.slurm_query import (
    JobState,
    Slurm,
    clean_environment,
    expand_job_id,
    first_host,
    parse_sacct,
    parse_squeue,
    tasks_on_node,
)

SQUEUE = """\
14_7|PENDING|JobArrayTaskLimit|lr-milestones
14_0|RUNNING|None|lr-milestones
14_1|PENDING|BeginTime|lr-milestones
14_2|COMPLETING|NonZeroExitCode|lr-milestones
15|PENDING|Dependency|lr-milestones
14_3|CANCELLED|None|lr-milestones
"""

SACCT = """\
14_0|RUNNING|0:0|lr-milestones
14_1|REQUEUED|0:0|lr-milestones
14_2|FAILED|1:0|lr-milestones
14_3|CANCELLED by 1001|0:0|lr-milestones
14_4|NODE_FAIL|0:0|lr-milestones
14_5|OUT_OF_MEMORY|0:125|lr-milestones
14_[6-8%2]|PENDING|0:0|lr-milestones
15|COMPLETED|0:0|lr-milestones
15.batch|COMPLETED|0:0|lr-milestones
"""


def test_squeue_is_read_by_element() -> None:
    jobs = parse_squeue(SQUEUE)
    assert jobs["14_1"] == JobState("PENDING", "BeginTime")
    assert jobs["14_0"] == JobState("RUNNING", "")
    assert [jobs[name].waiting for name in ("14_7", "14_0", "14_2", "15")] == [True, False, False, True]
    assert [jobs[name].active for name in ("14_7", "14_0", "14_2", "14_3")] == [True, True, True, False]


def test_sacct_is_read_by_element_without_steps() -> None:
    jobs = parse_sacct(SACCT)
    assert jobs["14_3"] == JobState("CANCELLED", "by 1001")
    assert jobs["14_2"] == JobState("FAILED", "exit 1:0")
    assert jobs["14_5"] == JobState("OUT_OF_MEMORY", "exit 0:125")
    assert {"14_6", "14_7", "14_8"} <= jobs.keys()
    assert "15.batch" not in jobs


def test_job_of_another_name_is_not_taken_for_ours() -> None:
    """After a cluster lost its history it hands the same ids out again."""
    lines = [
        "14_0|RUNNING|None|lr",
        "14_1|RUNNING|None|a | b",
        "15|PENDING|Dependency|lr-report",
        "16|RUNNING|None|lr2",
    ]
    queue = "\n".join(lines)
    assert parse_squeue(queue, "lr").keys() == {"14_0", "15"}
    assert parse_squeue(queue).keys() == {"14_0", "14_1", "15", "16"}
    assert parse_sacct(SACCT, "lr-milestones") == parse_sacct(SACCT) != {}
    assert parse_sacct(SACCT, "other") == {}


@pytest.mark.parametrize("text", ["", "\n", "slurm_load_jobs error: Invalid job id specified\n"])
def test_empty_answer_says_nothing(text: str) -> None:
    assert {job_id: state for job_id, state in parse_squeue(text).items() if state.active} == {}
    assert parse_sacct(text) == {}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[3-5,7%2]", ["12_3", "12_4", "12_5", "12_7"]),
        ("12_[0-8:4]", ["12_0", "12_4", "12_8"]),
        ("12_[1,...]", ["12_1"]),
        ("", []),
    ],
)
def test_job_ids_are_expanded(text: str, ids: list[str]) -> None:
    assert list(expand_job_id(text)) == ids


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("n1", "n1"), ("n[3-4,7],m1", "n3"), ("gpu-a[01-03]b,x", "gpu-a01b"), ("r[1-2]n[05-09]", "r1n05"), ("b,a", "b")],
)
def test_first_host_of_a_node_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_tasks_on_each_node_of_an_uneven_step() -> None:
    assert [tasks_on_node("4(x2),3", node) for node in range(3)] == [4, 4, 3]
    assert tasks_on_node("2", 0) == 2


def test_new_job_inherits_nothing_from_the_job_it_is_submitted_from() -> None:
    inside = {
        **{"SLURM_JOB_ID": "1", "SLURM_CPU_BIND": "mask", "SBATCH_CPU_BIND": "x", "SUBMITIT_FOLDER": "x", "RANK": "0"},
        **{"OMP_NUM_THREADS": "1"},
        **{"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "mine", "PATH": "/bin", "CUDA_HOME": "/cuda"},
    }
    kept = {"SLURM_CONF", "SBATCH_ACCOUNT", "PATH", "CUDA_HOME"}
    assert clean_environment(inside).keys() == kept


def fake_program(folder: Path, name: str, script: str) -> None:
    """Put a program into ``folder``, which then has to be all of PATH: nothing may reach a real Slurm."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{script}\n")
    (folder / name).chmod(0o755)


def test_queue_wins_over_accounting_and_accounting_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    fake_program(programs, "squeue", "echo '14_4|PENDING|BeginTime|lr-milestones'")
    fake_program(programs, "sacct", f"echo call >> {tmp_path}/calls; printf '%s' '{SACCT}'")
    monkeypatch.setenv("PATH", str(programs))
    answer = Slurm().states(["14_4", "14_2", "14_3", "99"])
    assert answer.jobs["14_4"] == JobState("PENDING", "BeginTime")  # its node failed, and it waits to run again
    assert answer.jobs["14_2"].state == "FAILED"
    assert "99" not in answer.jobs
    assert (tmp_path / "calls").read_text() == "call\n"


def test_states_survive_missing_accounting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    fake_program(programs, "squeue", "echo '14_0|RUNNING|None|lr-milestones'")
    fake_program(programs, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    monkeypatch.setenv("PATH", str(programs))
    answer = Slurm().states(["14_0", "14_1"])
    assert (set(answer.jobs), answer.queue_answered) == ({"14_0"}, True)


def test_controller_that_does_not_answer_is_told_apart_from_one_that_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(programs))
    fake_program(programs, "sacct", "exit 1")
    fake_program(programs, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert not Slurm().states(["14"]).queue_answered
    fake_program(programs, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert Slurm().states(["14"]).queue_answered
    assert not Slurm().states(["14"]).jobs
