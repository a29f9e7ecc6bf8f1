"""Opening a run: new, continued or already completed; decided once, by the main process, for all of them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from data_tools.console import CommandError, UsageError, say, warn
from vqvae_dist.config import TrainConfig
from vqvae_dist.config_io import fingerprint, flatten, result_settings, run_id, to_json
from vqvae_dist.files import write_json
from vqvae_dist.run_folder import SCHEMA, Attempt, Ownership, RunFolder
from vqvae_dist.training.libraries import library_versions
from vqvae_dist.training.runtime import Precision, Runtime, code_version, default_threads, resolve_precision

OLD_RUNS = "previous"
"""Subfolder where ``--fresh`` keeps earlier generations of a run."""

KEPT_BY_FRESH = {OLD_RUNS, "wandb", "owner.json"}


class OtherRankError(CommandError):
    """Another process failed and has said why; this one ends quietly."""


@dataclass(frozen=True)
class Session:
    """A run, opened for training by this process."""

    run: RunFolder
    runtime: Runtime
    identity: dict[str, Any]
    """What config.json holds."""
    attempt: Attempt
    owner: Ownership | None
    """None on processes other than the main one."""
    completed: bool
    """The run was completed already; there is nothing to do."""

    @property
    def milestones(self) -> tuple[int, ...]:
        """Milestones in steps, as resolved when the run first started."""
        return tuple(self.identity["resolved"]["milestones"])

    @property
    def warmup(self) -> int:
        """Warm-up in steps, as resolved when the run first started."""
        return int(self.identity["resolved"]["warmup"])


def open_session(
    config: TrainConfig, *, stage: str, digest: str, work: float, fresh: bool, attempt: Attempt
) -> Session:
    """Join the other processes and open ``config.output_dir``; ``work`` is the size from ``training_work``."""
    default_threads()
    cuda = torch.cuda.is_available()
    state = PartialState(cpu=not cuda, timeout=timedelta(seconds=config.runtime.collective_timeout_s))
    run = RunFolder(config_path(config))
    outcome: list[Any] = [None]
    failure: CommandError | None = None
    if state.is_main_process:
        try:
            outcome = [_open_run(run, config, stage=stage, digest=digest, work=work, fresh=fresh)]
        except CommandError as error:
            failure = error
    broadcast_object_list(outcome)
    if failure:
        raise failure
    if outcome[0] is None:
        raise OtherRankError("the main process could not open the run")
    identity, completed = outcome[0]
    resolved = identity["resolved"]
    precision = Precision(resolved["mixed"], resolved["compile"])
    runtime = Runtime(precision, tf32=config.precision.tf32, timeout_s=config.runtime.collective_timeout_s)
    owner = None
    if state.is_main_process and not completed:
        owner = Ownership(run, attempt)
        identity = {**identity, "attempts": [*identity["attempts"], _attempt_record(attempt, runtime)]}
        _show_code_change(identity["attempts"])
        write_json(run.config_file, identity)
    return Session(run, runtime, identity, attempt, owner, completed)


def config_path(config: TrainConfig) -> Path:
    """The run folder of a config; UsageError where none is given."""
    if not config.output_dir:
        raise UsageError("output_dir is needed: --output-dir RUN, a folder for the run")
    return Path(config.output_dir)


def _open_run(
    run: RunFolder, config: TrainConfig, *, stage: str, digest: str, work: float, fresh: bool
) -> tuple[dict[str, Any], bool]:
    """config.json of a new or continued run, and whether the run is completed already."""
    generation = 0
    stored = run.read_config() if run.config_file.is_file() else None
    if stored and fresh:
        generation = int(stored["generation"]) + 1
        set_aside(run, generation - 1)
        stored = None
    if stored is None:
        run.path.mkdir(parents=True, exist_ok=True)
        return new_identity(config, stage=stage, digest=digest, work=work, generation=generation), False
    identity = continued_identity(run, stored, config, stage=stage, digest=digest)
    summary = run.read_summary() or {}
    completed = summary.get("state") == "completed" and int(summary["step"]) >= config.schedule.steps
    return identity, completed


def new_identity(config: TrainConfig, *, stage: str, digest: str, work: float, generation: int) -> dict[str, Any]:
    """config.json of a run that starts now; what is ``auto`` or a share is resolved here, once."""
    precision = resolve_precision(config.precision, work)
    for milestone in config.milestones:
        if milestone >= config.schedule.steps:
            warn(f"optim.milestones {milestone} is not reached in schedule.steps {config.schedule.steps}")
    return {
        "schema": SCHEMA,
        "stage": stage,
        "run_id": run_id(config, digest),
        "fingerprint": fingerprint(config, digest),
        "data_digest": digest,
        "generation": generation,
        "settings": to_json(config),
        "resolved": {
            "milestones": list(config.milestones),
            "warmup": config.warmup,
            "mixed": precision.mixed,
            "compile": precision.compile,
        },
        "attempts": [],
    }


def continued_identity(
    run: RunFolder, stored: dict[str, Any], config: TrainConfig, *, stage: str, digest: str
) -> dict[str, Any]:
    """config.json of a run that goes on; UsageError names each setting that may not change."""
    different = changed_settings(stored, config)
    if stored["stage"] != stage:
        different.insert(0, f"stage {stored['stage']} -> {stage}")
    if stored["data_digest"] != digest:
        different.append("data.path (other data)")
    if different:
        raise UsageError(
            f"{run.path}: this run was started with other settings: {', '.join(different)}; "
            "give those again, another --output-dir, or --fresh"
        )
    return {**stored, "settings": to_json(config), "fingerprint": fingerprint(config, digest)}


def changed_settings(stored: dict[str, Any], config: TrainConfig) -> list[str]:
    """``key old -> new`` for each result-changing setting that differs; more steps are allowed."""
    old, new = flatten(stored["settings"]), flatten(to_json(config))
    different = []
    for key in result_settings(config):
        before, now = old.get(key), new.get(key)
        same = before == now or (key == "schedule.steps" and before is not None and before <= now)
        if not same and not (key == "optim.milestones" and stored["resolved"]["milestones"] == now):
            different.append(f"{key} {before} -> {now}")
    return different


def set_aside(run: RunFolder, generation: int) -> None:
    """Move what a run left into its ``previous`` subfolder."""
    target = run.path / OLD_RUNS / str(generation)
    target.mkdir(parents=True)
    for path in run.path.iterdir():
        if path.name not in KEPT_BY_FRESH:
            shutil.move(path, target / path.name)
    say(f"the earlier run is kept in {target}")


def _attempt_record(attempt: Attempt, runtime: Runtime) -> dict[str, Any]:
    return {
        "job": attempt.job,
        "number": attempt.number,
        "code": code_version(),
        "libraries": library_versions(),
        "processes": runtime.processes,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "host_cores": os.cpu_count(),
    }


def _show_code_change(attempts: list[dict[str, Any]]) -> None:
    if len(attempts) > 1 and attempts[-1]["code"] != attempts[-2]["code"]:
        warn(f"this run was trained with code {attempts[-2]['code']} before, and goes on with {attempts[-1]['code']}")
