"""Reading JSON that may be damaged or another program's: what was asked for, or an error that names the file.

Files of a run and of a sweep lie where anybody may edit them; Python's reader alone raises four kinds of errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.console import CommandError

BAD_TEXT = (ValueError, RecursionError)
"""What reading JSON or TOML raises: no such text (also not UTF-8), a number of thousands of digits, nested too deep."""

MISSING = (FileNotFoundError, NotADirectoryError)
"""What the system says where there is no such file; anything else it says may be otherwise in a minute."""

Kind = type | tuple[type, ...]

_NAMES: dict[Kind, str] = {
    str: "a text",
    int: "a whole number",
    (int, float): "a number",
    dict: "an object",
    list: "a list",
}

NUMBER = (int, float)


class UnreadableError(CommandError):
    """A file could not be read now; what it holds is not known, and nothing may be concluded from it."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CommandError names a file that holds none, UnreadableError one that can't be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        kind = CommandError if isinstance(error, MISSING) else UnreadableError
        raise kind(f"{path}: {error.strerror or error}") from None
    except BAD_TEXT:
        raise CommandError(f"{path}: damaged, not valid JSON") from None
    if not isinstance(value, dict):
        raise CommandError(f"{path}: damaged, not a JSON object")
    return value


def check_kinds(
    path: Path,
    values: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    *,
    optional: bool = False,
    within: str = "",
) -> None:
    """Raise CommandError unless each key of ``kinds`` is there and of its kind; ``optional``: or null, or absent."""
    for key, kind in kinds.items():
        value = values.get(key)
        if optional and value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool) or is_not_finite(value):
            raise CommandError(f"{path}: damaged, {within}{key} is not {_NAMES[kind]}")


def is_not_finite(value: Any) -> bool:
    """Whether it is NaN or infinity, which Python reads though JSON has neither."""
    return isinstance(value, float) and not math.isfinite(value)


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, NUMBER) and not isinstance(value, bool) and not is_not_finite(value)
