"""Where a process stands in its job, read from the environment that Slurm or submitit gave it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.slurm_query import first_host, tasks_on_node

PORTS = range(20000, 32000)
"""For the processes to meet on: below the ports that the system hands out by itself."""


@dataclass(frozen=True)
class Place:
    """One process of a job."""

    executor: str
    """``slurm`` or ``local``."""

    job_id: str
    """An array's element as ``12_3``."""

    restart: int
    """How often Slurm has put the job back into the queue."""

    rank: int

    @property
    def is_main(self) -> bool:
        """Whether it writes and decides for all processes of the job."""
        return self.rank == 0

    @classmethod
    def current(cls, environment: Mapping[str, str]) -> Place:
        """The place of this process; outside a job it stands alone."""
        if environment.get("SUBMITIT_EXECUTOR") == "local":
            job_id = environment["SUBMITIT_LOCAL_JOB_ID"]
            return cls("local", job_id, 0, int(environment["SUBMITIT_LOCAL_GLOBALID"]))
        if "SLURM_PROCID" in environment:
            restart, rank = environment.get("SLURM_RESTART_COUNT", "0"), environment["SLURM_PROCID"]
            return cls("slurm", slurm_job_id(environment), int(restart), int(rank))
        return cls("local", "local", 0, int(environment.get("RANK", "0")))


def slurm_job_id(environment: Mapping[str, str]) -> str:
    """The id of a job as users write it: ``12``, or ``12_3`` for an element of an array."""
    array = environment.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else environment["SLURM_JOB_ID"]


def distributed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT; nothing for a single process."""
    if environment.get("SUBMITIT_EXECUTOR") == "local":
        return _local(environment)
    if "SLURM_PROCID" in environment:
        return _slurm(environment)
    return {}


def _local(environment: Mapping[str, str]) -> dict[str, str]:
    tasks = environment.get("SUBMITIT_LOCAL_NTASKS", "1")
    if int(tasks) == 1:
        return {}
    rank = environment["SUBMITIT_LOCAL_GLOBALID"]
    port = _port(int(environment["SUBMITIT_LOCAL_JOB_ID"]))
    return _variables(rank=rank, size=tasks, local_rank=rank, local_size=tasks, host="127.0.0.1", port=port)


def _slurm(environment: Mapping[str, str]) -> dict[str, str]:
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment["SLURM_NTASKS"]
    if int(tasks) == 1:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    per_node = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment["SLURM_TASKS_PER_NODE"]
    job, restart = int(environment["SLURM_JOB_ID"]), int(environment.get("SLURM_RESTART_COUNT", "0"))
    step = environment.get("SLURM_STEP_ID", "0")
    return _variables(
        rank=environment["SLURM_PROCID"],
        size=tasks,
        local_rank=environment["SLURM_LOCALID"],
        local_size=str(tasks_on_node(per_node, int(environment["SLURM_NODEID"]))),
        host=first_host(nodes),
        # Another port after a requeue: a process of the last attempt may still hold the old one.
        port=_port(job + 1009 * restart + 53 * int(step if step.isdigit() else 0)),
    )


def _port(number: int) -> int:
    return PORTS[number % len(PORTS)]


def _variables(*, rank: str, size: str, local_rank: str, local_size: str, host: str, port: int) -> dict[str, str]:
    return {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": local_rank,
        "LOCAL_WORLD_SIZE": local_size,
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }


def threads_of(environment: Mapping[str, str], *, available: int) -> int:
    """Threads a process may compute with: its CPUs as Slurm gave them, as far as it is allowed to run there."""
    asked = int(environment.get("SLURM_CPUS_PER_TASK", available))
    tasks = int(environment.get("SUBMITIT_LOCAL_NTASKS", "1"))
    return max(1, min(available // tasks, asked))
