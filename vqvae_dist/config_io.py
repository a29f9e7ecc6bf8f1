"""Settings in and out: presets, TOML, dotted overrides, JSON, the fingerprint and the run id. No torch.

Settings are composed of layers (preset, file, sweep, command line), each a nested dict that knows where it came
from, so that an error can name the file, the key, the value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from data_tools.console import UsageError
from data_tools.hints import did_you_mean
from vqvae_dist.config import RESULT_VERSION, STAGES, TrainConfig
from vqvae_dist.config_base import YOUNGER
from vqvae_dist.config_errors import explain
from vqvae_dist.toml_files import read_toml

T = TypeVar("T", bound=TrainConfig)

PATH_KEYS = ("data.path", "output_dir")

FREE_KEYS = frozenset(
    {
        *PATH_KEYS,
        "data.workers",
        "data.preload",
        "schedule.micro_batch_size",
        "schedule.log_every",
        "schedule.validate_every",
        "schedule.image_every",
        "schedule.checkpoint_every",
        "checkpoint.keep_last",
        "tracking.mode",
        "tracking.project",
        "tracking.entity",
        "tracking.group",
        "tracking.tags",
        "runtime.collective_timeout_s",
        "runtime.hang_timeout_s",
    }
)
"""Settings that don't change what is trained: not in the fingerprint, free to change when a run goes on."""


@dataclass(frozen=True)
class Layer:
    """Some settings and where they came from (``smoke.toml``, ``command line``)."""

    source: str
    values: Mapping[str, Any]


def preset_names(kind: type[TrainConfig] | None = None) -> list[str]:
    """Names that ``--preset`` takes, of all trainings or of the one with settings of ``kind``."""
    names = sorted(entry.name.removesuffix(".toml") for entry in _presets().iterdir() if entry.name.endswith(".toml"))
    return [name for name in names if kind is None or _preset(name)[1].keys() <= flatten(kind()).keys()]


def preset_layer(name: str, kind: type[TrainConfig] | None = None) -> Layer:
    """The settings of a shipped preset; UsageError names the presets there are, of those for ``kind``."""
    names = preset_names(kind)
    if name not in names:
        others = [stage for stage, other in STAGES.items() if name in preset_names(other)]
        wrong = f"preset {name} is for {others[0]}" if others else f"no preset {name!r}"
        raise UsageError(f"{wrong}; there are {', '.join(names)}{did_you_mean(name, names)}")
    return Layer(f"preset {name}", nest(_preset(name)[1]))


def preset_purposes(kind: type[TrainConfig]) -> dict[str, str]:
    """What each preset for ``kind`` is for, by its name: the comment that its file begins with."""
    return {name: _preset(name)[0] for name in preset_names(kind)}


@cache
def _preset(name: str) -> tuple[str, dict[str, Any]]:
    """What a preset is for, and its settings, flat."""
    text = (_presets() / f"{name}.toml").read_text()
    return text.partition("\n")[0].removeprefix("# "), flatten(tomllib.loads(text))


def toml_layer(path: Path) -> Layer:
    """The settings of a TOML file; its paths are taken as relative to the file."""
    values = read_toml(path)
    try:
        return Layer(str(path), anchor_paths(nest(values), path.parent))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into tables: ``{"optim.lr": 1}`` -> ``{"optim": {"lr": 1}}``; tables stay tables.

    UsageError for a setting that is given twice.
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, last = key.split(".")
        target = nested
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise UsageError(f"{key}: {table} is given as a value and as a table")
        new = nest(value) if isinstance(value, Mapping) else value
        _add(target, last, new, key)
    return nested


def _add(table: dict[str, Any], name: str, value: Any, key: str) -> None:
    """Put a value, or what a table holds, into ``table``, where it must not be yet."""
    old = table.setdefault(name, value)
    if old is value:
        return
    if isinstance(old, dict) != isinstance(value, dict):
        raise UsageError(f"{key}: {name} is given as a value and as a table")
    if not isinstance(old, dict):
        raise UsageError(f"{key} is given twice")
    for part, inner in value.items():
        _add(old, part, inner, f"{key}.{part}")


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A config, or a nested dict, as ``{dotted key: value}``."""
    values = asdict(tree) if is_dataclass(tree) and not isinstance(tree, type) else tree
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts as one; where both have a value, ``above`` wins."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def anchor_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Take the path settings in nested ``values`` as relative to ``folder``."""
    flat = flatten(values)
    for key in PATH_KEYS:
        if isinstance(flat.get(key), str) and flat[key]:
            flat[key] = str(folder / flat[key])
    return nest(flat)


def compose(kind: type[T], *layers: Layer) -> T:
    """Read a config of ``kind`` from layers, later ones winning; UsageError for anything that doesn't fit."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    try:
        composed: T = _adapter(kind).validate_json(json.dumps(merged))  # type: ignore[arg-type]  # classes are hashable
    except ValidationError as error:
        given = [(layer.source, flatten(layer.values)) for layer in layers]
        raise UsageError(explain(error, flatten(kind()), given)) from None
    return composed


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Kept: building one takes milliseconds, and a sweep composes a thousand members."""
    return TypeAdapter(kind)


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The config as plain JSON values, nested."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def fingerprint(config: TrainConfig, data_digest: str, *, resolved: Mapping[str, Any] | None = None) -> str:
    """64 hex digits of what decides the result: settings, data and RESULT_VERSION.

    Milestones and warm-up count in steps, so that a share and the number it stands for are the same run; ``resolved``
    holds those of a run that was started with another number of steps.
    """
    kept = {f"optim.{name}": resolved[name] for name in ("milestones", "warmup")} if resolved else {}
    return _digest(result_settings(config) | kept, data_digest)


def younger_settings(kind: type[Any], prefix: str = "") -> dict[str, Any]:
    """The settings of ``kind`` that the first runs did not have, flat, at the values that train as those did."""
    found: dict[str, Any] = {}
    for one in fields(kind):
        if is_dataclass(one.default):
            found |= younger_settings(type(one.default), f"{prefix}{one.name}.")
        elif YOUNGER in one.metadata:
            found[prefix + one.name] = one.default
    return found


def result_settings(config: TrainConfig) -> dict[str, Any]:
    """The flat settings that change the result, with milestones and warm-up in steps."""
    flat, younger = flatten(to_json(config)), younger_settings(type(config)).items()
    free = FREE_KEYS | config.idle
    kept = {key: value for key, value in flat.items() if key not in free and (key, value) not in younger}
    return kept | {"optim.milestones": list(config.milestones), "optim.warmup": config.warmup}


def idle_text(config: TrainConfig, keys: Iterable[str]) -> str:
    """``model.quantizer.kind fsq does not use ...`` for those of ``keys`` that change nothing; empty without any."""
    idle = [key for key in dict.fromkeys(keys) if key in config.idle]
    return f"{config.kind_text} does not use {', '.join(idle)}" if idle else ""


def not_at_default(layer: Layer, kind: type[TrainConfig]) -> list[str]:
    """The settings that a file gives another value than they have without it."""
    default = flatten(kind())
    return [key for key, value in flatten(layer.values).items() if value != default.get(key)]


def changed_settings(stored: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """``key old -> new`` for each result-changing setting that differs from a run's config.json; more steps may."""
    younger = younger_settings(type(config))
    old, new = younger | flatten(stored["settings"]), flatten(to_json(config))
    different = []
    for key in younger | result_settings(config):
        before, now = old.get(key), new.get(key)
        same = before == now or (key == "schedule.steps" and before is not None and before <= now)
        if not same and not (key == "optim.milestones" and stored["resolved"]["milestones"] == now):
            different.append(f"{key} {before} -> {now}")
    return different


def _digest(settings: Mapping[str, Any], data_digest: str) -> str:
    text = json.dumps([RESULT_VERSION, data_digest, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_id(config: TrainConfig, data_digest: str) -> str:
    """A readable name for the run, ending in 8 digits of its fingerprint: ``lr3e-4_ms6k-10k_9f31c2ab``."""
    milestones = "-".join(_short(step) for step in config.milestones) or "none"
    return f"lr{_short_float(config.optim.lr)}_ms{milestones}_{fingerprint(config, data_digest)[:8]}"


def _short(steps: int) -> str:
    return f"{steps // 1000}k" if steps >= 1000 and steps % 1000 == 0 else str(steps)


def _short_float(value: float) -> str:
    mantissa, exponent = f"{value:e}".split("e")
    return re.sub(r"\.?0+$", "", mantissa) + f"e{int(exponent)}"


def _presets() -> Any:
    return files("vqvae_dist") / "presets"
