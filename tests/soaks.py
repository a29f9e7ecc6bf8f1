"""The command line of the soaks: how many, which seed, where the result goes, and the exit status."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import provenance

Soak = Callable[[Path, int, int], dict[str, Any]]
"""Does so many injuries, drawn with a seed, below a folder; says what came of them."""


def run_soak(soak: Soak, *, name: str, about: str | None, what: str, count: int, failures: Sequence[str]) -> int:
    """Run ``python -m NAME``; exit status 1 if one of ``failures``, keys of the result, is not empty."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about)
    parser.add_argument(f"--{what}", type=int, default=count, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of where and when")
    parser.add_argument("--json", type=Path, help="write the result there")
    given = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), given[what], given["seed"])
    result |= provenance(" ".join([f"python -m {name}", *sys.argv[1:]]))
    text = json.dumps(result, indent=2)
    print(text)
    if given["json"]:
        given["json"].write_text(f"{text}\n")
    return 1 if any(result[key] for key in failures) else 0
