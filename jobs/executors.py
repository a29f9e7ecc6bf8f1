"""What Slurm is asked for: submitit's executors, made from a profile. Nothing is submitted here."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import submitit

from data_tools.console import CommandError
from jobs.config import Profile
from jobs.folder import Plan, SweepFolder
from jobs.pipeline import PipelineStage
from jobs.profile import with_resources
from jobs.slurm_query import Slurm

DEFAULT_ARRAY_PARALLELISM = 64


class OwnSlurmExecutor(submitit.SlurmExecutor):
    """submitit's, whose jobs start with ``jobs.enter``."""

    @classmethod
    def affinity(cls) -> int:
        """That it can be made: a dry run shows its files where there is no Slurm, too."""
        return 2

    @property
    def _submitit_command_str(self) -> str:
        return enter_command(self.python, self.folder)


class OwnLocalExecutor(submitit.LocalExecutor):
    """submitit's, whose jobs start with ``jobs.enter``."""

    @property
    def _submitit_command_str(self) -> str:
        return enter_command(self.python, self.folder)


def enter_command(python: str, folder: Path) -> str:
    """The shell command of a job, for a ``python`` that is quoted already."""
    return f"{python} -u -m jobs.enter {shlex.quote(str(folder))}"


class Part(NamedTuple):
    """Some elements of an array that is too long for one."""

    start: int
    stop: int
    parallelism: int
    in_turn: bool
    """Whether it has to wait for the part before it."""


def split_array(count: int, *, size: int, parallelism: int) -> list[Part]:
    """Split ``count`` elements into arrays of at most ``size``, sharing the parallelism out.

    Where there are more parts than elements may run at once, the parts run in turn, each with the whole of it.
    """
    starts = range(0, count, size)
    each, rest = divmod(parallelism, max(1, len(starts)))
    shares = [each + (index < rest) for index in range(len(starts))] if each else [parallelism] * len(starts)
    return [Part(start, min(start + size, count), share, not each) for start, share in zip(starts, shares, strict=True)]


def array_executors(
    folder: SweepFolder, plan: Plan, count: int, *, code: Path, size: int = 0
) -> Iterator[tuple[Part, submitit.SlurmExecutor]]:
    """What ``count`` members are submitted with: one array, or several where the cluster allows none so long.

    ``size`` is the longest array; 0 asks the cluster.
    """
    limit = plan.profile.array_parallelism
    parallelism = DEFAULT_ARRAY_PARALLELISM if limit == "auto" else limit
    for part in split_array(count, size=size or plan.slurm.max_array_size(), parallelism=parallelism):
        executor = slurm_executor(
            folder,
            plan,
            profile=plan.profile,
            processes=plan.profile.processes_per_node,
            code=code,
            name=plan.name,
            dependency="",
        )
        executor.update_parameters(array_parallelism=part.parallelism)
        yield part, executor


def stage_executor(
    folder: SweepFolder, plan: Plan, stage: PipelineStage, *, after: str, code: Path
) -> submitit.SlurmExecutor:
    """What a stage is submitted with: the profile's resources for a training, one process for the others."""
    profile = with_resources(plan.profile, stage.resources, f"[pipeline.{stage.name}]")
    processes = profile.processes_per_node
    if not stage.is_training:
        alone = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": min(1, profile.gpus) if stage.needs_gpus else 0}
        profile, processes = with_resources(profile, alone, stage.name), 1
    return slurm_executor(
        folder,
        plan,
        profile=profile,
        processes=processes,
        code=code,
        name=f"{plan.name}-{stage.name}",
        dependency=after,
    )


def check_executor(profile: Profile) -> None:
    """CommandError where this machine cannot submit for the profile; asked before anything is written."""
    if profile.executor != "slurm":
        return
    if not shutil.which("srun"):
        raise CommandError("srun: not found; is Slurm on this machine? (--profile local runs here)")
    Slurm(profile.slurm_conf).max_array_size()  # whether it answers


def slurm_executor(
    folder: SweepFolder,
    plan: Plan,
    *,
    profile: Profile,
    processes: int,
    code: Path,
    name: str,
    dependency: str,
) -> submitit.SlurmExecutor:
    """An executor with everything of the profile in it."""
    if not str(folder.logs).isprintable():  # a line break would end the comment that #SBATCH is to the shell
        raise CommandError(
            f"{str(folder.path)!r}: a path with line breaks or other control signs; choose another --root"
        )
    executor = OwnSlurmExecutor(folder.logs)
    executor.update_parameters(
        job_name=name,
        comment=comment_of(plan, "NONCE"),
        wckey=None,  # submitit's own would be refused where such keys are tracked
        nodes=profile.nodes,
        ntasks_per_node=processes,
        cpus_per_task=profile.cpus_per_task,
        time=profile.timeout_min,
        signal_delay_s=profile.signal_lead_s,
        stderr_to_stdout=True,
        setup=[*profile.setup, *_exports({**profile.env, **code_environment(code)})],
        srun_args=_srun_arguments(profile),
        additional_parameters={"requeue": True, "kill-on-invalid-dep": "yes", **profile.sbatch},
        **_optional(profile, processes=processes, dependency=dependency),
    )
    return executor


def _optional(profile: Profile, *, processes: int, dependency: str) -> dict[str, Any]:
    """What is said to sbatch only where the profile says it."""
    named = {"partition": profile.partition, "account": profile.account, "qos": profile.qos, "dependency": dependency}
    parameters: dict[str, Any] = {key: value for key, value in named.items() if value}
    if profile.gpus and profile.gpu_binding == "node":
        parameters["gpus_per_node"] = profile.gpus
    elif profile.gpus:
        parameters["gpus_per_task"] = 1
    if profile.mem_gb:
        parameters["mem"] = f"{round(profile.mem_gb * processes * 1024)}M"
    return parameters


def _srun_arguments(profile: Profile) -> list[str]:
    # srun takes the CPUs of a task no more from sbatch since Slurm 22.05. A rank that fails takes the others with it:
    # they would wait for it in their next collective.
    arguments = [f"--cpus-per-task={profile.cpus_per_task}", "--kill-on-bad-exit=1"]
    return [*arguments, "--gpus-per-task=1"] if profile.gpus and profile.gpu_binding == "task" else arguments


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def dependency_of(stage: PipelineStage, before: Sequence[str], *, first: bool) -> str:
    """What a stage waits for: the first one until all members have ended, however they did; others for success.

    The report tells of a failure too.
    """
    if not before:
        return ""
    return ("afterany:" if first or stage.name == "report" else "afterok:") + ":".join(before)


def sbatch_text(executor: submitit.SlurmExecutor, count: int) -> str:
    """The sbatch file that submitit would write for ``count`` units."""
    if count > 1:
        executor.parameters["map_count"] = count  # as submitit itself marks an array
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))


def comment_of(plan: Plan, nonce: str) -> str:
    """By which a submission is found again in the queue."""
    return f"vqvae-jobs:{plan.name}:{nonce}"


def code_environment(code: Path) -> dict[str, str]:
    """Variables by which jobs run the code in the folder ``code``, and not what lies in the working folder by then."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{code}:{path}" if path else str(code), "PYTHONSAFEPATH": "1"}
