"""What config.json says: which run this is, what was chosen for it, and who trained it with what."""

from __future__ import annotations

import os
from typing import Any

import torch

from data_tools.console import UsageError, warn
from vqvae_dist.config import TrainConfig
from vqvae_dist.config_io import changed_settings, fingerprint, run_id, to_json
from vqvae_dist.run_folder import SCHEMA, Attempt, RunFolder
from vqvae_dist.training.libraries import library_versions
from vqvae_dist.training.runtime import Precision, code_version


def new_identity(
    config: TrainConfig, precision: Precision, *, stage: str, digest: str, generation: int
) -> dict[str, Any]:
    """config.json of a run that starts now; what is ``auto`` or a share is resolved here, once."""
    for milestone in config.optim.milestones:
        if milestone >= config.schedule.steps:  # a share never is
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
    print_of = fingerprint(config, digest, resolved=stored["resolved"])
    resolved = dict(stored["resolved"])
    if stored["settings"]["schedule"]["micro_batch_size"] != config.schedule.micro_batch_size:
        resolved.pop("micro_batch_size", None)  # found too large or small enough by an earlier attempt
    return {**stored, "settings": to_json(config), "resolved": resolved, "fingerprint": print_of}


def attempt_record(attempt: Attempt, processes: int) -> dict[str, Any]:
    """What config.json says of an attempt: code, libraries and machine, which decide the bits of its result."""
    return {
        "job": attempt.job,
        "number": attempt.number,
        "code": code_version(),
        "libraries": library_versions(),
        "processes": processes,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "host_cores": os.cpu_count(),
    }


def show_code_change(attempts: list[dict[str, Any]]) -> None:
    """Warn where the newest attempt runs other code than the one before."""
    codes = [attempt["code"] for attempt in attempts[-2:] if attempt["code"]]  # empty where it is not known
    if len(set(codes)) > 1:
        warn(f"this run was trained with code {codes[0]} before, and goes on with {codes[1]}")
