"""Checkpoints that are complete or absent, and are never trusted unread.

A checkpoint is a folder of safetensors and JSON with a manifest of checksums: staged, fsynced, renamed. ``latest``
and ``best`` are small text files replaced by rename. A good one is deleted only after a newer one has been read back.
Damage is what was read and is not what was written; what can't be read now ends the command and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save
from torch import Tensor

from data_tools.console import CommandError, describe, warn
from data_tools.staging import STAGING
from vqvae_dist.files import (
    fsync_folder,
    sha256_file,
    staging_path,
    write_file,
    write_json,
    write_sealed,
    write_synced,
)
from vqvae_dist.json_files import MISSING, UnreadableError, read_json
from vqvae_dist.run_folder import Ownership, RunFolder, read_sealed

MANIFEST = "manifest.json"
VALUES = "trainer.json"

DAMAGED = "damaged-"
"""Prefix of what was stepped over: kept until a checkpoint of its step or a later one stands."""

Tensors = Mapping[str, Tensor]


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By part: ``model``, ``optimizer``, and ``averaged`` where weights are averaged."""
    values: dict[str, Any]
    """Everything else, as JSON."""


class DamagedError(Exception):
    """A checkpoint is not what was written; the text says which file and why."""


class Checkpoints:
    """The checkpoints of one run; writing belongs to the main process."""

    def __init__(self, run: RunFolder, *, keep_last: int, of: str = "") -> None:
        self.run, self.keep_last, self.of = run, keep_last, of

    def save(
        self, step: int, parts: Mapping[str, Tensors], values: Mapping[str, Any], *, best: int | None, owner: Ownership
    ) -> None:
        """Write the checkpoint of ``step`` and delete old ones; ``best`` is the step of the best so far."""
        owner.check()
        folder = self.run.checkpoint(step)
        staged = staging_path(folder)
        try:
            self.run.checkpoints.mkdir(exist_ok=True)
            write_checkpoint(staged, step, parts, {"of": self.of, **values})
            owner.check()
            remove(folder)  # left by an attempt whose later steps were damaged
            staged.rename(folder)
            fsync_folder(self.run.checkpoints)
            self._point(step, best)
            verify_checkpoint(folder, of=self.of)
        except (OSError, DamagedError) as error:
            shutil.rmtree(staged, ignore_errors=True)
            good = self.newest_step()
            kept = f"the last good checkpoint is step {good}" if good is not None else "there is no checkpoint yet"
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CommandError(f"{folder}: could not be written: {reason}; {kept}") from None
        self._prune(best)
        for damaged, at in step_folders(self.run.checkpoints, prefix=DAMAGED).items():
            if at <= step:
                remove(damaged)

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint that verifies; each damaged one is stepped over aloud."""
        steps = self.steps()
        for at, step in enumerate(steps):
            try:
                verify_checkpoint(self.run.checkpoint(step), of=self.of)
            except DamagedError as error:
                back = f"going back to step {steps[at + 1]}" if at + 1 < len(steps) else "starting from step 0"
                warn(f"{error}, {back}")
            except UnreadableError as error:
                raise CommandError(
                    f"{error}; nothing was deleted: the same command goes on once it can be read"
                ) from None
            else:
                return step
        return None

    def steps(self) -> list[int]:
        """Steps of all checkpoint folders, newest first."""
        return sorted(step_folders(self.run.checkpoints).values(), reverse=True)

    def load(self, step: int) -> Checkpoint:
        """Read the checkpoint of ``step``, which verified."""
        return read_checkpoint(self.run.checkpoint(step))

    def clear_staging(self) -> None:
        """Delete what a kill left half-written; the caller owns the run."""
        for folder in (self.run.path, self.run.checkpoints, self.run.model, self.run.images):
            for path in folder.glob(f"{STAGING}*") if folder.is_dir() else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def settle(self, step: int, *, best: int | None) -> None:
        """Make the folder what it was right after ``step`` was saved, whenever a kill came since; step -1: empty.

        Later checkpoints, damaged and stepped over, are put aside. The caller owns the run.
        """
        for folder, later in step_folders(self.run.checkpoints).items():
            if later > step:
                aside = folder.with_name(f"{DAMAGED}{folder.name}")
                remove(aside)
                folder.rename(aside)
        if step < 0:
            for name in ("latest", "best"):
                (self.run.checkpoints / name).unlink(missing_ok=True)
            return
        self._point(step, best)
        self._prune(best)

    def _point(self, latest: int, best: int | None) -> None:
        """Let the files ``latest`` and ``best`` name these steps."""
        for name, step in (("latest", latest), ("best", best)):
            if step is not None:
                write_file(self.run.checkpoints / name, f"{self.run.checkpoint(step).name}\n".encode())

    def _prune(self, best: int | None) -> None:
        for step in self.steps()[self.keep_last :]:
            if step != best:
                shutil.rmtree(self.run.checkpoint(step), ignore_errors=True)


def step_folders(checkpoints: Path, *, prefix: str = "") -> dict[Path, int]:
    """What stands under a checkpoint's name, behind ``prefix``, and its step; other names are somebody else's."""
    try:
        names = sorted(path.name for path in checkpoints.iterdir())
    except FileNotFoundError:
        return {}
    found = {name: re.fullmatch(rf"{prefix}step_([0-9]{{8}}|[1-9][0-9]{{8,}})", name) for name in names}
    return {checkpoints / name: int(match[1]) for name, match in found.items() if match}


def remove(path: Path) -> None:
    """Delete a folder, a file or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_checkpoint(folder: Path, step: int, parts: Mapping[str, Tensors], values: Mapping[str, Any]) -> None:
    """Write all files of a checkpoint, each fsynced, and then their manifest."""
    folder.mkdir()
    manifest = {}
    for name, content in _files(step, parts, values):
        write_synced(folder / name, content)
        manifest[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(folder / MANIFEST, manifest)


def _files(step: int, parts: Mapping[str, Tensors], values: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file; one part in memory at a time."""
    for name, tensors in parts.items():
        yield f"{name}.safetensors", save(on_cpu(tensors))
    yield VALUES, json.dumps({"step": step, **values}, allow_nan=False).encode()


def on_cpu(tensors: Tensors) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: on the CPU, in row-major order."""
    return {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}


def verify_checkpoint(folder: Path, *, of: str) -> None:
    """Raise DamagedError unless every file of the manifest, and no other, is there with its size and checksum.

    ``of`` names the run whose checkpoint it should be. UnreadableError where that can't be told now.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        found = {path.name for path in folder.iterdir()} - {MANIFEST}
        if found != set(manifest):
            odd = ", ".join(sorted(found ^ set(manifest)))
            raise DamagedError(f"{folder}: files missing or unknown ({odd})")
        for name, written in manifest.items():
            path = folder / name
            if path.stat().st_size != written["size"] or sha256_file(path) != written["sha256"]:
                raise DamagedError(f"{path}: checksum mismatch")
        values = read_json(folder / VALUES)
        if folder.name != f"step_{values['step']:08d}":
            raise DamagedError(f"{folder}: holds another step")
        if values["of"] != of:
            raise DamagedError(f"{folder}: a checkpoint of another run, {values['of']}")
    except UnreadableError:
        raise
    except (*MISSING, CommandError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{folder / MANIFEST}: checksum mismatch or unreadable ({error})") from None
    except OSError as error:
        raise UnreadableError(f"{error.filename or folder}: {error.strerror or error}") from None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's files onto the CPU."""
    values = read_json(folder / VALUES)
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return Checkpoint(int(values["step"]), tensors, values)


def export_model(run: RunFolder, tensors: Tensors, description: Mapping[str, Any], owner: Ownership) -> None:
    """Write model/model.safetensors and model/config.json, which holds the weights' SHA-256 and ``description``."""
    owner.check()
    run.model.mkdir(exist_ok=True)
    weights = run.model / "model.safetensors"
    write_file(weights, save(on_cpu(tensors)))
    write_sealed(run.model / "config.json", {**description, "weights_sha256": sha256_file(weights)})


def exported_step(run: RunFolder, run_id: str) -> int | None:
    """The step whose weights lie in model/; None before the first export. Damage is said aloud, and is None too."""
    weights, description_file = run.model / "model.safetensors", run.model / "config.json"
    if not (weights.exists() or description_file.exists()):
        return None
    try:
        description = read_sealed(description_file)
        if description.get("run_id") != run_id:
            raise CommandError(f"{description_file}: of another run, {description.get('run_id')}")
        if description.get("weights_sha256") != sha256_file(weights):
            raise CommandError(f"{weights}: checksum mismatch")
        if not isinstance(description.get("step"), int):
            raise CommandError(f"{description_file}: damaged, its step is missing")
        return int(description["step"])
    except (CommandError, OSError) as error:
        warn(f"{describe(error)}; it is written again from the checkpoint of its step, if that is there")
        return None
