"""What makes a dataclass a part of the settings, and the checks that its values go through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, Protocol, TypeVar, dataclass_transform

from tyro.conf import arg

from data_tools.flags import empty_means

Split = Literal["train", "validate", "test", "all"]
ChoosingSplit = Literal["train", "validate"]
"""Splits that may choose the best checkpoint: nothing chooses by test."""

DataPath = Annotated[str, arg(metavar="FILE.h5", help_behavior_hint="(required)")]
RunPath = Annotated[str, arg(metavar="RUN", help_behavior_hint="(required)")]
"""Paths that have no default; they are empty in settings that are not yet those of a run."""

Emptiable = Annotated[str, empty_means("empty")]
"""A text that may be empty."""

Best = Literal["max", "min"]
"""Whether a metric is best where it is highest, or lowest."""

MOST = 10**9
"""Of whatever is counted, seconds too: what computes with it overflows somewhere above."""

MAX_CHANNELS, MAX_LAYERS = 8192, 1024
"""Beyond these even a single layer, or a step, fits into no machine."""

MAX_CODES = 65536
"""Codes are stored as 16 bits."""

C = TypeVar("C")
V = TypeVar("V")

YOUNGER = "younger"


def younger(*, default: V) -> V:
    """Declare a setting that the first runs did not have, with the value that trains as they did.

    At that value it is not in a run's fingerprint, so that runs keep their names.
    """
    made: V = field(default=default, metadata={YOUNGER: True})
    return made


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(younger,))
def config(cls: type[C]) -> type[C]:
    """Make a frozen, keyword-only dataclass that pydantic reads strictly: no unknown keys, no coercion."""
    cls.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]  # pydantic's
    return dataclass(frozen=True, kw_only=True)(cls)


class Described(Protocol):
    """One of several kinds of something."""

    @property
    def about(self) -> str:
        """What it is, in a few words for ``--help``."""


def each_described(kinds: Mapping[str, Described]) -> Any:
    """The help of a setting that names one of ``kinds``."""
    return arg(help="; ".join(f"{name}: {kind.about}" for name, kind in kinds.items()) + ".")


def check(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the setting, its value and what is allowed, unless ``holds``."""
    if not holds:
        text = str(value)
        raise ValueError(f"{name} must be {allowed}, got {text if len(text) <= 200 else text[:20] + '...'}")


def positive(name: str, value: float) -> None:
    """Check that a setting is finite and above 0."""
    check(value > 0, name, value, "positive")
    _countable(name, value)


def up_to(name: str, value: int, most: int) -> None:
    """Check that a setting is from 1 to ``most``."""
    check(1 <= value <= most, name, value, f"from 1 to {most}")


def not_negative(name: str, value: float) -> None:
    """Check that a setting is finite and 0 or more."""
    check(value >= 0, name, value, "0 or more")
    _countable(name, value)


def _countable(name: str, value: float) -> None:
    if isinstance(value, int):
        check(value <= MOST, name, value, f"{MOST:,} or less")
    else:
        check(math.isfinite(value), name, value, "finite")


def below_one(name: str, value: float) -> None:
    """Check that a setting is in [0, 1)."""
    check(0 <= value < 1, name, value, "at least 0 and below 1")


def scored_by(best_metric: str, metrics: Mapping[str, Best]) -> None:
    """Check that ``checkpoint.best_metric`` is empty or one of ``metrics`` with the direction that it has there."""
    allowed = [f"{best} validate/{name}" for name, best in metrics.items()]
    check(best_metric in ("", *allowed), "checkpoint.best_metric", repr(best_metric), f"one of {', '.join(allowed)}")


def unused(prefix: str, kind: type[Any], uses: frozenset[str]) -> frozenset[str]:
    """The flat names of the settings of ``kind``, but its ``kind``, that are not among ``uses``."""
    return frozenset(prefix + one.name for one in fields(kind) if one.name not in uses | {"kind"})
