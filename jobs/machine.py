"""What this machine has, and what a local job may use of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_tools.console import CommandError, counted
from jobs.config import Profile
from jobs.folder import Plan


@dataclass(frozen=True)
class Share:
    """What a local job may use."""

    gpus: tuple[int, ...]
    processes: int
    threads: int
    """For each of its processes."""


def share_of(plan: Plan, unit: str, free: Sequence[int]) -> Share:
    """What a unit may use: its GPUs among the free ones, and threads so that all slots together fill the cores."""
    profile = plan.profile
    stage = next((stage for stage in plan.pipeline if stage.name == unit), None)
    if stage is None or stage.is_training:
        gpus, processes = profile.gpus, profile.processes_per_node
    else:
        gpus, processes = min(1, profile.gpus) if stage.needs_gpus else 0, 1
    slots = slots_of(plan) if stage is None else 1  # stages run alone
    return Share(tuple(free[:gpus]), processes, max(1, len(os.sched_getaffinity(0)) // (slots * processes)))


def slots_of(plan: Plan) -> int:
    """Members that may run at once on this machine."""
    slots = plan.profile.array_parallelism
    assert slots != "auto", "resolve() comes first"
    return slots


def resolve(profile: Profile, gpus: tuple[int, ...]) -> Profile:
    """The profile with this machine's numbers for ``auto``; CommandError where it wants GPUs that aren't there."""
    each = (1 if gpus else 0) if profile.gpus_per_node == "auto" else profile.gpus_per_node
    if each > len(gpus):
        raise CommandError(f"the profile wants {counted(each, 'GPU')} for each member; visible here: {len(gpus)}")
    cores = len(os.sched_getaffinity(0)) // (profile.cpus_per_task * profile.tasks_per_node)
    room = len(gpus) // each if each else max(1, cores)
    wanted = room if profile.array_parallelism == "auto" else profile.array_parallelism
    return replace(profile, gpus_per_node=each, array_parallelism=min(wanted, room) if each else wanted)


def visible_gpus() -> tuple[int, ...]:
    """Numbers of the GPUs that may be used here: those of CUDA_VISIBLE_DEVICES, or all that the driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        numbers = [part.strip() for part in named.split(",") if part.strip()]
        if not all(number.isdigit() for number in numbers):
            raise CommandError(f"CUDA_VISIBLE_DEVICES must list numbers for profile local, got {named!r}")
        return tuple(int(number) for number in numbers)
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(range(sum(line.startswith("GPU ") for line in answer.stdout.splitlines())))
