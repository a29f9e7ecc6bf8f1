"""How flags that need no value, or may be empty, stand in ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, arg

Switch = Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")]
"""A flag that is off unless it is given."""


RunPath = Annotated[Path, arg(metavar="RUN")]
"""A run folder."""

PackedPath = Annotated[Path, arg(metavar="FILE.h5")]
"""Packed slices."""


def empty_means(text: str, **options: Any) -> Any:
    """``(default: text)`` where the default is empty; ``options`` are further ones of ``tyro.conf.arg``."""

    def hint(default: str) -> str:
        return f"(default: {text if default in ('', repr('')) else default})"

    return arg(help_behavior_hint=hint, **options)
