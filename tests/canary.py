"""A trap: an object whose pickle, when it is loaded, leaves a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Canary:
    """Pickles as the call that makes ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
