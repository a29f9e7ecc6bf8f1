"""Settings as a person writes them: ``lr 1e-3 · milestones 6000 9000``."""

from __future__ import annotations

import json
from typing import Any

from jobs.config import Settings


def point_text(point: Settings) -> str:
    """Some settings in words: ``lr 1e-3 · milestones 6000 9000``."""
    return " · ".join(f"{key.split('.', 1)[-1]} {value_text(value)}" for key, value in point.items())


def value_text(value: Any) -> str:
    """A setting's value as a person writes it: lists separated by spaces, floats short."""
    if isinstance(value, list | tuple):
        return " ".join(value_text(part) for part in value) or "none"
    if isinstance(value, float):
        return _float_text(value)
    return value if isinstance(value, str) else json.dumps(value)


def _float_text(value: float) -> str:
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.5e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
