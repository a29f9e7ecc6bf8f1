"""What sweep files and profiles may hold, and how such files are read: strictly, with an error that names the key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from data_tools.console import UsageError
from data_tools.hints import near_or_allowed
from vqvae_dist.config import TrainConfig, check, config
from vqvae_dist.config_errors import in_words, near_choice
from vqvae_dist.config_io import Layer, preset_layer, toml_layer

T = TypeVar("T")

OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Stage = Literal["train-vqvae", "train-pixelcnn"]
Settings = dict[str, Any]
"""Dotted settings and their values."""

DEFAULT_SELECT: dict[str, str] = {
    "train-vqvae": "max validate/ssim_foreground",
    "train-pixelcnn": "min validate/bits_per_code",
}
"""What chooses the best member where the sweep file doesn't say."""


@config
class PipelineTable:
    """``[pipeline]``: what follows the array. ``[pipeline.STAGE]`` tables are read by ``jobs.pipeline``."""

    select: str = ""
    """The metric of a run's best checkpoint that chooses, with "max " or "min " before it, whichever is better; empty
    takes the stage's."""

    then: tuple[str, ...] = ()
    """Stages in order."""


@config
class SweepTable:
    """A sweep file as it is written, without its [pipeline]."""

    name: str
    """Folder of the sweep under the root, and group in W&B."""

    stage: Stage = "train-vqvae"
    """What a member runs."""

    base: str = ""
    """A preset, or a TOML file beside the sweep file; empty starts from the defaults."""

    set: Settings = field(default_factory=dict)
    """Settings of every member."""

    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Settings whose values are combined in every way."""

    zip: dict[str, list[Any]] = field(default_factory=dict)
    """Settings whose values are walked together."""

    points: tuple[Settings, ...] = ()
    """Settings of single members."""


@config
class Profile:
    """Where and with what the members run: this machine, or a cluster."""

    executor: Literal["local", "slurm"]
    """``local`` runs processes here, ``slurm`` submits."""

    slurm_conf: str = ""
    """Which cluster: a path of a slurm.conf; ``auto`` finds the one-machine cluster; empty takes the machine's own."""

    partition: str = ""
    """Slurm partition; empty takes the cluster's default."""

    account: str = ""
    """Who is charged; empty takes the user's default."""

    qos: str = ""
    """Slurm quality of service; empty takes the default."""

    nodes: int = 1
    """Nodes of a run."""

    gpus_per_node: int | Literal["auto"] = 0
    """GPUs of a run on each node, a process each; 0 computes on CPUs; ``auto`` (local): 1 where there are GPUs."""

    gpu_binding: Literal["node", "task"] = "node"
    """``node``: a process sees all GPUs of its node; ``task``: its own alone."""

    tasks_per_node: int = 1
    """Processes of a run on each node where ``gpus_per_node`` is 0."""

    cpus_per_task: int = 1
    """CPUs of a process."""

    mem_gb: float = 0
    """Memory of a process in GB; 0 takes the cluster's default."""

    timeout_min: int = 60
    """Time limit of one attempt, minutes (Slurm)."""

    array_parallelism: int | Literal["auto"] = "auto"
    """Members at a time; ``auto``: as GPUs (or CPUs) allow here, 64 on Slurm."""

    signal_lead_s: int = 90
    """Warning before the time limit, and the longest a stopping process may take, seconds."""

    max_attempts_without_progress: int = 3
    """Starts in a row that gain no training step before a run counts as failed."""

    setup: tuple[str, ...] = ()
    """Shell lines of every job before Python starts (Slurm)."""

    cache_dir: str = ""
    """Fast disk of the node itself; shell variables are expanded there."""

    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """W&B mode of the members, where neither base nor sweep say one."""

    env: dict[str, str] = field(default_factory=dict)
    """Environment of every process."""

    sbatch: Settings = field(default_factory=dict)
    """Other options of sbatch, without their dashes."""

    def __post_init__(self) -> None:
        for name in ("nodes", "tasks_per_node", "cpus_per_task", "timeout_min", "max_attempts_without_progress"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("gpus_per_node", "mem_gb", "signal_lead_s"):
            value = getattr(self, name)
            check(value == "auto" or value >= 0, name, value, "0 or more")
        many = self.array_parallelism
        check(many == "auto" or many >= 1, "array_parallelism", many, 'at least 1, or "auto"')
        self._check_executor()
        self._check_texts()
        taken = RESERVED_SBATCH & {key.replace("_", "-") for key in self.sbatch}
        check(not taken, "sbatch", ", ".join(sorted(taken)), "options that the profile's own keys don't set")

    def _check_executor(self) -> None:
        if self.executor == "local":
            check(self.nodes == 1, "nodes", self.nodes, "1 with executor local")
            check(not self.setup, "setup", list(self.setup), "left out with executor local")
        else:
            check(self.gpus_per_node != "auto", "gpus_per_node", "auto", "a number with executor slurm")

    def _check_texts(self) -> None:
        """What stands in a job's script unquoted, or in a comment of it, must not end there and go on as a command."""
        for name in ("partition", "account", "qos", "slurm_conf"):
            value = getattr(self, name)
            check(value.isprintable(), name, repr(value), "one line of printable text")
        for key, value in self.sbatch.items():
            check(
                OPTION.fullmatch(key) is not None, "sbatch", repr(key), "names of options, without dashes before them"
            )
            check(str(value).isprintable(), f"sbatch.{key}", repr(value), "one line of printable text")
        for key, value in self.env.items():
            check(VARIABLE.fullmatch(key) is not None, "env", repr(key), "names of variables: letters, digits and _")
            check("\0" not in value, f"env.{key}", repr(value), "text without zero bytes")

    @property
    def gpus(self) -> int:
        """GPUs of a run on each node, as a number; ``auto`` is resolved by ``jobs.local`` before it is asked."""
        return 0 if self.gpus_per_node == "auto" else self.gpus_per_node

    @property
    def processes_per_node(self) -> int:
        """Processes of a run on each node: one for each GPU."""
        return self.gpus or self.tasks_per_node


RESERVED_SBATCH = (
    frozenset({"array", "output", "error", "open-mode", "job-name", "signal", "requeue", "dependency", "comment"})
    | {"nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "gpus-per-task", "mem", "time"}
    | {"partition", "account", "qos", "kill-on-invalid-dep"}
)
"""Options of sbatch that jobs sets itself."""

RESOURCE_KEYS = frozenset(
    {"partition", "account", "qos", "nodes", "gpus_per_node", "tasks_per_node", "cpus_per_task", "mem_gb"}
) | {"timeout_min"}
"""Keys of a profile that a stage of the pipeline may set for itself."""


@dataclass(frozen=True)
class Selection:
    """How the best member is chosen."""

    largest: bool
    metric: str

    @classmethod
    def read(cls, text: str) -> Selection:
        """``"max validate/ssim"``; ValueError for anything else."""
        words = text.split()
        good = len(words) == 2 and words[0] in ("max", "min") and words[1].startswith("validate/")
        check(good, "pipeline.select", repr(text), 'like "max validate/ssim_foreground"')
        return cls(words[0] == "max", words[1])

    def __str__(self) -> str:
        return f"{'max' if self.largest else 'min'} {self.metric}"


def base_layer(base: str, source: str, kind: type[TrainConfig]) -> Layer:
    """The settings of a ``base``, a preset for ``kind`` or a TOML file; UsageError names ``source``."""
    try:
        return toml_layer(Path(base)) if base.endswith(".toml") else preset_layer(base, kind)
    except UsageError as error:
        raise UsageError(f"{source}: base: {error}") from None


def read_strictly(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Values from a file as a ``kind``; UsageError names the source, the key, the value and what is allowed."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise UsageError(f"{source}: {_explain(kind, error)}") from None


def _explain(kind: type[Any], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    known = [entry.name for entry in fields(kind)]
    key = ".".join(path[:2] if path[:1] in (["set"], ["grid"], ["zip"], ["env"]) else path[:1])
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown key {key}, given {json.dumps(first['input'])}{near_or_allowed(key, known)}"
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{key} is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    wanted = " or ".join(in_words(problem) for problem in error.errors() if problem["loc"][:1] == first["loc"][:1])
    quoted = isinstance(first["input"], dict) and path[:1] in (["grid"], ["zip"])
    hint = '; write dotted settings in quotes, like "optim.lr"' if quoted else near_choice(first)
    return f"{key} must be {wanted}, got {json.dumps(first['input'])}{hint}"
