"""What the tests do to a cluster of slurm/one_machine: start it, ask it, break it, stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "slurm" / "one_machine"


@dataclass(frozen=True)
class Cluster:
    """A cluster of start.sh: its state folder, and its scripts as they were called."""

    state: Path
    scripts: Path
    options: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user who sourced env.sh, without the marks of a job around the tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return kept | {
            "SLURM_CONF": str(self.state / "etc" / "slurm.conf"),
            "PATH": f"{kept.get('PATH', '/usr/bin:/bin')}:/usr/sbin",
        }

    def run(self, *command: str | Path, timeout: float = 60) -> str:
        """Run a command of Slurm to its end and return what it printed."""
        result = self.attempt(*command, timeout=timeout)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout.strip()

    def attempt(self, *command: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.attempt(self.scripts / "start.sh", *self.options, *arguments)

    def stop(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.attempt(self.scripts / "stop.sh", "--state", str(self.state), *arguments)

    def daemons(self) -> dict[str, int]:
        """The process ids of the daemons by name: munged, slurmctld, n1, …"""
        return {file.stem: int(file.read_text()) for file in (self.state / "run").glob("*.pid")}

    def kill(self, *names: str) -> None:
        """End daemons as a crash would, and wait until they are gone."""
        for name in names:
            end(self.daemons()[name], signal.SIGKILL)

    def tasks_on(self, node: str) -> list[int]:
        """What the jobs on a node have started."""
        marks = {f"SLURMD_NODENAME={node}", f"SLURM_CONF={self.state}/etc/slurm.conf"}
        return [pid for pid in processes() if marks <= environment(pid)]

    def training_on(self, node: str) -> list[int]:
        """The processes of a run's ranks on a node."""
        return [pid for pid in self.tasks_on(node) if parent_is_stepd(pid) and name_of(pid).startswith("python")]

    def ranks_of(self, job: str) -> dict[int, int]:
        """The processes of an array element's ranks, ``12_0``, by rank."""
        array, _, task = job.partition("_")
        marks = {
            f"SLURM_CONF={self.state}/etc/slurm.conf",
            f"SLURM_ARRAY_JOB_ID={array}",
            f"SLURM_ARRAY_TASK_ID={task}",
        }
        ranks = {}
        for pid in processes():
            about = environment(pid)
            alone = {f"SLURM_CONF={self.state}/etc/slurm.conf", f"SLURM_JOB_ID={job}"}
            if (marks <= about or alone <= about) and parent_is_stepd(pid) and name_of(pid).startswith("python"):
                ranks[int(next(line for line in about if line.startswith("SLURM_PROCID=")).partition("=")[2])] = pid
        return ranks

    def lose_power(self, node: str) -> None:
        """Kill a node with all that runs on it, at once."""
        tasks = self.tasks_on(node)
        stepds = {parent_of(pid) for pid in tasks if parent_is_stepd(pid)}
        for pid in (self.daemons()[node], *stepds, *tasks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end(pid: int, number: signal.Signals) -> None:
    """Signal a process and wait until it is gone."""
    os.kill(pid, number)
    wait_until(lambda: not is_alive(pid), 30)


def processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def environment(pid: int) -> set[str]:
    """Its lines NAME=VALUE, as the process was started with; empty where it is another user's."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0"))
    except OSError:
        return set()


def name_of(pid: int) -> str:
    return status_field(pid, "Name")


def parent_is_stepd(pid: int) -> bool:
    """Whether a process is a task of a job step itself, and not what a task has started."""
    return name_of(parent_of(pid)) == "slurmstepd"


def parent_of(pid: int) -> int:
    return int(status_field(pid, "PPid") or 0)


def status_field(pid: int, key: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), "")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    return status_field(pid, "State")[:1] not in ("", "Z")


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for something that is sure to come; the limit is only there to end a broken test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def free_ports() -> int:
    """The first of 80 ports that nothing listens on."""
    for base in range(18000, 30000, 100):
        if not any(is_listening(port) for port in range(base, base + 80)):
            return base
    raise AssertionError("no free ports")


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
