"""What a wrong name may have been meant for: a flag, a setting, a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

OTHER_NAMES = {
    "amp": "mixed",
    "beta": "commitment",
    "commitment-cost": "commitment",
    "data": "path",
    "embedding-dim": "code-dim",
    "epochs": "steps",
    "grad-clip": "gradient-clip",
    "iterations": "steps",
    "learning-rate": "lr",
    "max-steps": "steps",
    "mixed-precision": "mixed",
    "num-embeddings": "codebook-size",
    "num-workers": "workers",
    "precision": "mixed",
    "wandb-project": "project",
}
"""What other programs call a setting, and the last part of its name here."""


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` for the nearest of ``known``, or nothing."""
    near = nearest(given, known)
    return f"; did you mean {near}?" if near else ""


def nearest(given: str, known: Sequence[str]) -> str:
    """What of ``known`` may be meant, or nothing: by the last part of its name, a name that others use, or likeness."""
    whole = {_plain_name(name): name for name in known}
    last_parts = {plain.rpartition(".")[2]: name for plain, name in whole.items()}
    word = _plain_name(given)
    last = word.rpartition(".")[2]
    for part in (last, OTHER_NAMES.get(last, "")):
        if part in last_parts:
            return last_parts[part]
    return _alike(word, whole) or _alike(last, last_parts)


def _alike(word: str, named: Mapping[str, str]) -> str:
    return next((named[near] for near in get_close_matches(word, list(named), n=1)), "")


def _plain_name(name: str) -> str:
    """A flag or a key, without what they differ by: ``--schedule.batch-size``, ``schedule.batch_size``."""
    return name.lstrip("-").replace("_", "-")


def near_or_allowed(given: str, known: Sequence[str]) -> str:
    """``; did you mean X?``, or where none of ``known`` is near, all of them."""
    return did_you_mean(given, known) or f"; allowed: {', '.join(known)}"
