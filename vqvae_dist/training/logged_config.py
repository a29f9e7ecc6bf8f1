"""A run as W&B remembers it: the config that the tracker logged, read back from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_tools.console import CommandError, UsageError
from vqvae_dist.config import STAGES
from vqvae_dist.config_io import flatten, nest
from vqvae_dist.json_files import BAD_TEXT, check_kinds

NEEDED = ("stage", "run_id", "fingerprint", "data_digest", "resolved.milestones", "resolved.warmup")


_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})


def _compose_without_aliases(loader: Any, parent: Any, index: Any) -> Any:
    """Refuse YAML that means the same part twice: a few lines of it can stand for more than any memory holds."""
    if loader.check_event(yaml.AliasEvent):
        raise yaml.YAMLError("it has aliases, which W&B does not write")
    return yaml.SafeLoader.compose_node(loader, parent, index)


_Loader.compose_node = _compose_without_aliases

_POINTLESS = re.compile(r"[-+]?\d+e[-+]?\d+", re.IGNORECASE)
"""Numbers like 1e-05, which YAML 1.1 reads as text for want of a point. A commit may look like one too."""


def read_logged_config(file: Path) -> dict[str, Any]:
    """What config.json of the run said, from a file of W&B's.

    ``file`` is the run's ``config.yaml`` (in its files at the server), or JSON of ``wandb.Api().run(PATH).config``.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        values = json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=_Loader)  # a SafeLoader
        values = json.loads(json.dumps(values))  # YAML has dates, and keys that are numbers
    except (*BAD_TEXT, TypeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:120]
        raise CommandError(f"{file}: neither JSON nor YAML ({said}); give a run folder, or its config.yaml") from None
    if not isinstance(values, dict):
        raise UsageError(f"{file}: not the config of a W&B run; give its config.yaml")
    flat = flatten({key: value["value"] if _is_wrapped(value) else value for key, value in values.items()})
    missing = [key for key in NEEDED if key not in flat]
    if missing or not isinstance(flat["stage"], str) or flat["stage"] not in STAGES:
        raise UsageError(f"{file}: not the config of a run of ours, without {', '.join(missing) or 'a known stage'}")
    check_kinds(file, flat, dict.fromkeys(("fingerprint", "data_digest"), str))
    names = flatten(STAGES[flat["stage"]]())
    settings = {key: _numbers_as_in(names[key], value) for key, value in flat.items() if key in names}
    settings |= {f"optim.{name}": flat[f"resolved.{name}"] for name in ("milestones", "warmup")}
    attempt = {key.removeprefix("attempt."): value for key, value in flat.items() if key.startswith("attempt.")}
    facts = {key: value for key, value in flat.items() if key not in names and not key.startswith("attempt.")}
    return {**nest(facts), "settings": nest(settings), "attempts": [nest(attempt)]}


def _numbers_as_in(default: Any, value: Any) -> Any:
    """``value`` of a setting, with numbers where its ``default`` has numbers."""
    if isinstance(default, tuple) and isinstance(value, list):
        return [_numbers_as_in(default[0], one) for one in value] if default else value
    is_number = isinstance(default, int | float) and isinstance(value, str) and _POINTLESS.fullmatch(value)
    return float(value) if is_number else value


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value
