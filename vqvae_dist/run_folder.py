"""What a run leaves on disk, by name, and how it is read back. No torch: jobs and login nodes use it.

Training writes it (``training/checkpoint.py``, ``training/tracking.py``); inference and jobs read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.console import CommandError, UsageError, warn
from vqvae_dist.files import SEAL, seal_of, write_json
from vqvae_dist.json_files import BAD_TEXT, NUMBER, Kind, check_kinds, read_json

SCHEMA = 1
"""Version of a run folder's layout, in config.json."""

CONFIG_KINDS: dict[str, Kind] = {
    "stage": str,
    "run_id": str,
    "fingerprint": str,
    "data_digest": str,
    "generation": int,
    "settings": dict,
    "resolved": dict,
    "attempts": list,
}
"""What config.json of a run says beside its schema."""

SUMMARY_KINDS: dict[str, Kind] = {
    "step": int,
    "steps": int,
    "seconds": NUMBER,
    "slices_per_second": NUMBER,
    "best": dict,
    "final": dict,
    "pictures": list,
    "reason": str,
}
BEST_KINDS: dict[str, Kind] = {"metric": str, "value": NUMBER, "step": int}
METRICS_KINDS: dict[str, Kind] = {"bytes": int, "sha256": str}
NO_METRICS = {"bytes": 0, "sha256": ""}


@dataclass(frozen=True)
class Attempt:
    """Who trains: one start of a process (group) on a run folder."""

    job: str = "local"
    """Slurm's job id, or ``local``."""

    number: int = 0
    """Earlier starts on this run, as the launcher counts them."""


class OtherRankError(CommandError):
    """The main process failed and has said why; the others end quietly."""


class PeerEndedError(RuntimeError):
    """Another process of the training is gone; it may have said why, or was killed and could not."""


class OwnershipLostError(CommandError):
    """A newer attempt owns the run folder; this one must write nothing more."""


@dataclass(frozen=True)
class RunFolder:
    """A run's files by name."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Resolved settings, schema number, fingerprint."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """A JSON object a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def summary_file(self) -> Path:
        """State, step, speed, best and final values."""
        return self.path / "summary.json"

    @property
    def owner_file(self) -> Path:
        """Who may write."""
        return self.path / "owner.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``step_00000500`` folders, ``latest`` and ``best``."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the exported best weights: model.safetensors and config.json."""
        return self.path / "model"

    @property
    def animation_file(self) -> Path:
        """The pictures of a completed training as a GIF."""
        return self.path / "animation.gif"

    @property
    def images(self) -> Path:
        """Folder of ``step_00000500.png``."""
        return self.path / "images"

    def image_file(self, step: int) -> Path:
        """The picture of a step."""
        return self.images / f"step_{step:08d}.png"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint folder of a step."""
        return self.checkpoints / f"step_{step:08d}"

    def read_config(self) -> dict[str, Any]:
        """config.json; CommandError where there is no run or it is damaged."""
        if not self.config_file.is_file():
            what = "not a run folder (no config.json)" if self.path.is_dir() else "no such run folder"
            raise CommandError(f"{self.path}: {what}; a training makes one as its --output-dir")
        values = read_json(self.config_file)
        if values.keys().isdisjoint({"schema", SEAL}):
            raise UsageError(f"{self.path}: not a run folder (config.json is another program's); give another folder")
        if values.get("schema", SCHEMA) != SCHEMA:
            raise CommandError(f"{self.config_file}: schema {values['schema']}, this version reads {SCHEMA}")
        values = unsealed(self.config_file, values)
        check_kinds(self.config_file, values, CONFIG_KINDS)
        return values

    def read_summary(self) -> dict[str, Any] | None:
        """summary.json, or None before the first; CommandError where it is damaged."""
        if not self.summary_file.is_file():
            return None
        values = read_sealed(self.summary_file)
        check_kinds(self.summary_file, values, {"state": str})
        check_kinds(self.summary_file, values, SUMMARY_KINDS, optional=True)
        check_kinds(self.summary_file, values.get("best") or {}, BEST_KINDS, optional=True, within="best.")
        check_kinds(self.summary_file, values.get("metrics") or NO_METRICS, METRICS_KINDS, within="metrics.")
        return values

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line cut by a kill is left out, and damage is said aloud."""
        content = self.metrics_file.read_bytes() if self.metrics_file.is_file() else b""
        self.check_metrics()
        return list(parse_rows(content.decode("utf-8", "replace")))

    def check_metrics(self) -> bool:
        """Whether metrics.jsonl is what training wrote, as far as is noted; say aloud where it is not."""
        agree = self.metrics_agree()
        if not agree:
            warn(f"{self.metrics_file}: damaged, some of its rows are not those that training wrote")
        return agree

    def metrics_agree(self) -> bool:
        """Whether metrics.jsonl begins as summary.json noted it, undamaged; True where nothing was noted."""
        for _ in range(2):  # training may cut one file between our looks at the two
            content = self.metrics_file.read_bytes() if self.metrics_file.is_file() else b""
            try:
                noted = (self.read_summary() or {}).get("metrics")
            except CommandError:
                return True
            if noted and noted.get("damaged"):
                return False
            if not noted or metrics_note(content[: noted["bytes"]]) == noted:
                return True
        return False


def run_name(config: Mapping[str, Any]) -> str:
    """A run by the id and generation in its config.json; what it leaves is marked with it."""
    return f"{config['run_id']} generation {config['generation']}"


def metrics_note(content: bytes, *, damaged: bool = False) -> dict[str, Any]:
    """What summary.json says of metrics.jsonl, that far: length, checksum, and that it was found damaged if it was."""
    note = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {**note, "damaged": True} if damaged else note


def parse_rows(text: str) -> Iterator[dict[str, Any]]:
    """The rows in a part of metrics.jsonl; lines cut at its beginning or end, or damaged, are left out."""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            return
        try:
            row = json.loads(line)
        except BAD_TEXT:
            continue
        if isinstance(row, dict) and type(row.get("global_step")) is int:
            yield row


def read_sealed(path: Path) -> dict[str, Any]:
    """A JSON object that was written with its checksum, without it; CommandError where they disagree."""
    return unsealed(path, read_json(path))


def unsealed(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """``value``, read from ``path``, without its checksum; CommandError where that is wrong or absent."""
    content = {key: part for key, part in value.items() if key != SEAL}
    try:
        fits = value.get(SEAL) == seal_of(content)
    except BAD_TEXT:  # NaN, which nobody seals
        fits = False
    if not fits:
        raise CommandError(f"{path}: damaged or edited, its content does not fit its checksum")
    return content


class Ownership:
    """The right to write a run folder: a token in owner.json, taken by the newest attempt without asking."""

    def __init__(self, run: RunFolder, attempt: Attempt) -> None:
        self.run = run
        self.token = uuid.uuid4().hex
        write_json(
            run.owner_file, {"job": attempt.job, "attempt": attempt.number, "token": self.token, "pid": os.getpid()}
        )

    def check(self) -> None:
        """Raise OwnershipLostError once a newer attempt has taken the folder; call before every write."""
        owner = read_json(self.run.owner_file)
        if owner.get("token") != self.token:
            raise OwnershipLostError(
                f"{self.run.path}: attempt {owner.get('attempt')} of job {owner.get('job')} owns this run now; "
                "this one, which began before, ends and writes nothing more"
            )
