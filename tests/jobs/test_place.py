from __future__ import annotations

import pytest

from jobs.place import PORTS, Place, distributed_environment, threads_of

TWO_NODES = {
    **{"SLURM_JOB_ID": "604", "SLURM_ARRAY_JOB_ID": "602", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1"},
    **{"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"},
    **{"SLURM_JOB_NODELIST": "n[3-4]", "SLURM_TASKS_PER_NODE": "4(x2)", "SUBMITIT_EXECUTOR": "slurm"},
}
LOCAL = {
    **{"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "4711", "SUBMITIT_LOCAL_NTASKS": "2"},
    **{"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_LOCALID": "1"},
}


def test_process_of_an_array_on_two_nodes() -> None:
    assert Place.current(TWO_NODES) == Place("slurm", "602_3", 1, 5)
    variables = distributed_environment(TWO_NODES)
    port = int(variables.pop("MASTER_PORT"))
    assert variables == {
        **{"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "n3"},
    }
    assert port in PORTS


def test_all_processes_meet_at_the_same_place_and_another_one_after_a_requeue() -> None:
    def meeting(**changes: str) -> tuple[str, str]:
        variables = distributed_environment(TWO_NODES | changes)
        return variables["MASTER_ADDR"], variables["MASTER_PORT"]

    assert meeting(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0") == meeting()
    assert meeting(SLURM_RESTART_COUNT="2") != meeting()
    assert meeting(SLURM_JOB_ID="605") != meeting()


def test_step_on_some_nodes_of_an_allocation_meets_on_its_own_first_node() -> None:
    step = {"SLURM_STEP_NODELIST": "n4", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    variables = distributed_environment(TWO_NODES | step | {"SLURM_NODEID": "0", "SLURM_PROCID": "1"})
    assert (variables["MASTER_ADDR"], variables["WORLD_SIZE"], variables["LOCAL_WORLD_SIZE"]) == ("n4", "2", "2")


def test_local_job_meets_on_this_machine() -> None:
    assert Place.current(LOCAL) == Place("local", "4711", 0, 1)
    variables = distributed_environment(LOCAL)
    assert (variables["RANK"], variables["LOCAL_RANK"], variables["WORLD_SIZE"]) == ("1", "1", "2")
    assert variables["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    "environment",
    [{}, LOCAL | {"SUBMITIT_LOCAL_NTASKS": "1"}, TWO_NODES | {"SLURM_NTASKS": "1", "SLURM_TASKS_PER_NODE": "1"}],
)
def test_single_process_gets_no_process_group(environment: dict[str, str]) -> None:
    assert distributed_environment(environment) == {}


def test_outside_a_job_a_process_stands_alone() -> None:
    assert Place.current({}) == Place("local", "local", 0, 0)
    assert Place.current({"SLURM_PROCID": "0", "SLURM_JOB_ID": "9"}).job_id == "9"


@pytest.mark.parametrize(
    ("environment", "available", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "4"}, 16, 4),  # no task affinity: all CPUs of the node are allowed
        ({"SLURM_CPUS_PER_TASK": "8"}, 2, 2),
        ({"SUBMITIT_LOCAL_NTASKS": "4"}, 2, 1),
        ({}, 6, 6),
    ],
)
def test_threads_are_those_that_were_given(environment: dict[str, str], available: int, threads: int) -> None:
    assert threads_of(environment, available=available) == threads
