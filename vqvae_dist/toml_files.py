"""TOML files of settings, sweeps and profiles, read with an error of one line for whatever they may hold."""

from __future__ import annotations

import tomllib
from datetime import date, time
from pathlib import Path
from typing import Any

from data_tools.console import UsageError
from data_tools.hints import nearest
from vqvae_dist.json_files import BAD_TEXT

DEEPEST = 16
"""Tables and lists within each other that a TOML file may have; settings need four."""


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict; UsageError names the file and the line, or the key of what no setting can be."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not valid TOML, nor any text") from None
    except BAD_TEXT as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        what = "a folder" if path.is_dir() else error.strerror or error
        raise UsageError(f"{path}: {what}; {_meant(path)}") from None
    refuse_misfits(path, values)
    return values


def _meant(path: Path) -> str:
    """What to give instead of ``path``: the TOML file beside it that is called alike, or any."""
    beside = {file.stem: file for file in path.parent.glob("*.toml") if file != path}
    near = nearest(path.stem, list(beside))
    return f"did you mean {beside[near]}?" if near else "give a TOML file"


def refuse_misfits(path: Path, values: dict[str, Any]) -> None:
    """UsageError for what no setting can be: dates, and tables within tables without end."""
    inside: list[tuple[str, int, Any]] = [("", 0, values)]
    while inside:
        key, depth, value = inside.pop()
        if depth > DEEPEST:
            raise UsageError(f"{path}: {key[:40]}...: tables nested more than {DEEPEST} deep")
        if isinstance(value, date | time):
            raise UsageError(f"{path}: {key} must not be a date or a time, got {value}")
        if isinstance(value, dict):
            inside += [(f"{key}.{name}".lstrip("."), depth + name.count(".") + 1, part) for name, part in value.items()]
        elif isinstance(value, list):
            inside += [(key, depth + 1, part) for part in value]
