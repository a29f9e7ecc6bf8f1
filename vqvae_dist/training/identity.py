"""What config.json says: which run this is, what was chosen for it, and who trained it with what."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data_tools.console import CommandError, UsageError, warn
from vqvae_dist.code_version import code_version
from vqvae_dist.config import STAGES, TrainConfig
from vqvae_dist.config_io import (
    Layer,
    changed_settings,
    compose,
    fingerprint,
    flatten,
    run_id,
    to_json,
    younger_settings,
)
from vqvae_dist.json_files import Kind, check_kinds
from vqvae_dist.run_folder import SCHEMA, Attempt, RunFolder
from vqvae_dist.training.libraries import library_versions
from vqvae_dist.training.runtime import Precision

RESOLVED_KINDS: dict[str, Kind] = {"milestones": list, "warmup": int}
ATTEMPT_KINDS: dict[str, Kind] = {"code": str, "libraries": dict, "processes": int, "threads": int, "device": str}


def new_identity(
    config: TrainConfig, precision: Precision, *, stage: str, digest: str, generation: int
) -> dict[str, Any]:
    """config.json of a run that starts now; what is ``auto`` or a share is resolved here, once."""
    for milestone in config.optim.milestones:
        if milestone >= config.schedule.steps:  # a share never is
            warn(f"optim.milestones {milestone} is not reached in schedule.steps {config.schedule.steps}")
    trained, validated = (flatten(config)[f"data.{name}_split"] for name in ("train", "validate"))
    if trained in ("all", validated):
        warn(f"data.train_split {trained} holds data.validate_split {validated}: what is trained on chooses the best")
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
    believed_config(run.config_file, stored)
    check_kinds(run.config_file, stored["resolved"], {"mixed": str}, within="resolved.")
    if stored["stage"] != stage:
        raise UsageError(f"{run.path}: a run of {stored['stage']}; give another --output-dir, or --fresh")
    different = changed_settings(stored, config)
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


def believed_config(source: Path, stored: Mapping[str, Any]) -> TrainConfig:
    """The settings in a run's config.json, or W&B's copy of it; CommandError where they are not those it began with."""
    check_kinds(source, stored["resolved"], RESOLVED_KINDS, within="resolved.")
    check_kinds(source, stored["resolved"], {"micro_batch_size": int}, optional=True, within="resolved.")
    for attempt in stored["attempts"]:
        if not isinstance(attempt, dict):
            raise CommandError(f"{source}: damaged, an attempt is not an object")
        check_kinds(source, attempt, ATTEMPT_KINDS, optional=True, within="attempts.")
    if stored["stage"] not in STAGES:
        raise CommandError(f"{source}: damaged, or of another version: stage {stored['stage']}")
    try:
        config = compose(STAGES[stored["stage"]], Layer(str(source), stored["settings"]))
    except UsageError as error:
        raise CommandError(f"{error}; damaged, or of another version") from None
    if fingerprint(config, stored["data_digest"], resolved=stored["resolved"]) != stored["fingerprint"]:
        known = flatten(stored["settings"]) | younger_settings(type(config))
        absent = [name for name in flatten(to_json(config)) if name not in known]
        why = f"of another version, without {absent[0]}?" if absent else "edited?"
        raise CommandError(f"{source}: its settings do not fit its fingerprint {stored['fingerprint'][:8]}; {why}")
    return config


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
    codes = [attempt["code"] for attempt in attempts[-2:] if attempt.get("code")]  # empty where it is not known
    if len(set(codes)) > 1:
        warn(f"this run was trained with code {codes[0]} before, and goes on with {codes[1]}")
