"""Asking Slurm, in one place: the calls, and pure functions that read their answers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from data_tools.console import CommandError, first_line

QUERY_TIMEOUT_S = 30
WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"))
RUNNING = frozenset(
    ("CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "COMPLETING")
)
ACTIVE = WAITING | RUNNING
"""States of jobs that Slurm still has to do with."""


class JobState(NamedTuple):
    """What a cluster says about a job."""

    state: str
    """Slurm's word without what follows it: ``CANCELLED``, not ``CANCELLED by 1001``."""

    detail: str = ""
    """Why it waits, its exit code, or who cancelled it."""

    @property
    def active(self) -> bool:
        """Whether it may still run."""
        return self.state in ACTIVE

    @property
    def waiting(self) -> bool:
        """Whether it isn't running now."""
        return self.state in WAITING


class Answer(NamedTuple):
    """States by element id (``12_3``, or ``12`` of a job that is no array)."""

    jobs: dict[str, JobState]
    queue_answered: bool
    """False where the controller could not be asked: nothing is known then about jobs that aren't in ``jobs``."""


@dataclass(frozen=True)
class Slurm:
    """A cluster, reached through its commands."""

    conf: str = ""
    """Path of its slurm.conf; empty takes the machine's own."""

    job_name: str = ""
    """Of the jobs that are ours (a stage's goes on after a hyphen); empty: all. A cluster hands ids out again when its
    history was lost or they have run through, and another's job must not be taken for ours."""

    def states(self, job_ids: Iterable[str]) -> Answer:
        """The states of jobs: from the queue, and for those it has forgotten from one accounting query.

        The queue goes first: accounting lags by seconds, and calls a job that failed with its node ended while
        Slurm is already running it again. Without accounting, forgotten jobs are simply missing.
        """
        wanted = set(job_ids)
        if not wanted:
            return Answer({}, True)
        arrays = ",".join(sorted({job_id.partition("_")[0] for job_id in wanted}, key=int))
        queue = self.ask(
            ["squeue", "--noheader", "--all", "--array", "--states=all", "-o", "%i|%T|%r|%j", "-j", arrays]
        )
        answered = queue.returncode == 0 or "Invalid job id" in queue.stderr
        jobs = parse_squeue(queue.stdout, self.job_name)
        if wanted - jobs.keys():
            columns = "JobID,State,ExitCode,JobName"
            history = self.ask(["sacct", "-X", "--noheader", "--parsable2", "-o", columns, "-j", arrays])
            jobs = parse_sacct(history.stdout, self.job_name) | jobs
        return Answer({job_id: jobs[job_id] for job_id in wanted & jobs.keys()}, answered)

    def ids_by_comment(self, comment: str) -> list[str]:
        """Ids of queued or running jobs that carry a comment."""
        answer = self.ask(["squeue", "--noheader", "--all", "-o", "%F|%k"])
        rows = (line.split("|", 1) for line in answer.stdout.splitlines() if "|" in line)
        return sorted({job_id for job_id, text in rows if text == comment})

    def max_array_size(self) -> int:
        """One more than the highest index an array may have."""
        answer = self.ask(["scontrol", "show", "config"])
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer.stdout, re.MULTILINE)
        if not found:
            why = first_line(answer.stderr) or "no MaxArraySize"
            raise CommandError(f"Slurm doesn't answer ({why}); run it on a login node, or use --profile local")
        return int(found[1])

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs or elements; those that have ended already are no error."""
        for start in range(0, len(job_ids), 500):  # a command line is not endless
            answer = self.ask(["scancel", *job_ids[start : start + 500]])
            if answer.returncode and "Invalid job id" not in answer.stderr:
                raise CommandError(f"scancel: {first_line(answer.stderr)}")

    def requeue(self, job_id: str) -> str:
        """Put a running job (one element of an array) back into the queue; why not, or empty when it was done."""
        answer = self.ask(["scontrol", "requeue", job_id])
        return (first_line(answer.stderr + answer.stdout) or "refused") if answer.returncode else ""

    def environment(self) -> dict[str, str]:
        """The environment in which this cluster is asked."""
        conf = {"SLURM_CONF": self.conf} if self.conf else {}
        return clean_environment(os.environ) | conf

    def ask(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands; a missing one, or one that hangs, is an answer with an error."""
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=QUERY_TIMEOUT_S,
                env=self.environment(),
                check=False,
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not found; is Slurm on this machine?")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"{command[0]}: no answer in {QUERY_TIMEOUT_S} s")


KEPT_VARIABLES = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"})
LAUNCHED_WITH = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
BOUND_TO = frozenset({"OMP_NUM_THREADS", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND"})


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what a job around us left in it.

    Inherited, those variables bind the new job's processes to the CPUs of the old one, or make it look for its files.
    """
    prefixes = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "SBATCH_CPU_BIND_", "SBATCH_MEM_BIND_", "PMI_", "PMIX_")
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT_VARIABLES or not (name.startswith(prefixes) or name in LAUNCHED_WITH | BOUND_TO)
    }


def parse_squeue(text: str, job_name: str = "") -> dict[str, JobState]:
    """Lines of ``squeue -o "%i|%T|%r|%j"``, one an element; those of ``job_name`` alone, if given."""
    jobs = {}
    for job_id, state, reason in _rows_of(text, job_name):
        for element in expand_job_id(job_id):
            jobs[element] = JobState(state, "" if reason == "None" else reason)
    return jobs


def parse_sacct(text: str, job_name: str = "") -> dict[str, JobState]:
    """Lines of ``sacct -X --parsable2 -o JobID,State,ExitCode,JobName``; those of ``job_name`` alone, if given."""
    jobs = {}
    for job_id, state, exit_code in _rows_of(text, job_name):
        if "." in job_id or "+" in job_id:
            continue
        word, _, rest = state.partition(" ")
        detail = rest if word == "CANCELLED" else f"exit {exit_code}" if exit_code not in ("0:0", "") else ""
        for element in expand_job_id(job_id):
            jobs[element] = JobState(word, detail)
    return jobs


def _rows_of(text: str, job_name: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        parts = line.strip().split("|", 3)
        if len(parts) == 4 and (not job_name or parts[3] == job_name or parts[3].startswith(f"{job_name}-")):
            yield parts[0], parts[1], parts[2]


def expand_job_id(text: str) -> Iterator[str]:
    """``12`` and ``12_3`` as they are; ``12_[3-5,7%2]`` as ``12_3``, ``12_4``, ``12_5``, ``12_7``."""
    array, _, inside = text.partition("_[")
    if not inside:
        if text:
            yield text
        return
    for part in inside.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        last, _, step = last.partition(":")
        if not first.isdigit():  # cut short: "1,3-..."
            continue
        for index in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{array}_{index}"


def first_host(nodes: str) -> str:
    """The first host of a node list: ``n3`` of ``n[3-4,7],m1``."""
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes).split(",")[0]


def tasks_on_node(tasks_per_node: str, node: int) -> int:
    """Tasks of a step on its node number ``node``, from ``SLURM_STEP_TASKS_PER_NODE`` such as ``2(x3),1``."""
    counts: list[int] = []
    for part in tasks_per_node.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts[node]
