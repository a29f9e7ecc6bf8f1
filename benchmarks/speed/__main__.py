"""One measurement in a process of its own: ``python -m benchmarks.speed NAME --work DIR`` prints its rows as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.speed.row import Options


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    options = Options(device=given.device, data=given.data, work=given.work, quick=given.quick)
    with contextlib.redirect_stdout(sys.stderr):
        rows = import_module(f"benchmarks.speed.{given.name}").rows(options)
    print(json.dumps([row._asdict() for row in rows]))


if __name__ == "__main__":
    main()
