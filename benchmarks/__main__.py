"""Every figure of speed and memory again, each beside what it is held against.

    python -m benchmarks [--quick] [--device cpu|cuda] [--data brain.h5] [--only NAME ...]

Prints the table and writes docs/results/benchmarks.json, an object a row; rows that are not measured again stay. Peers
come from their own packages: ``pip install -e '.[benchmarks]'``. --data gives packed real slices to the rows that need
them. A measurement that can't be made here (no Slurm, no peer, no real slices) is named with the reason and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, provenance
from benchmarks.suite import markdown
from data_tools.console import say, warn

MEASUREMENTS = {
    "cpu": (
        "vqvae_step",
        "quality_time",
        "memory",
        "data",
        "upkeep",
        "sampling",
        "ranks",
        "sweep",
        "starting",
        "growth",
    ),
    "cuda": ("vqvae_step", "memory", "sampling"),
}
FILE = ROOT / "docs" / "results" / "benchmarks.json"


def main(arguments: list[str] | None = None) -> int:
    """Measure, write and print; 1 where a measurement could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 minutes on two CPU cores")
    parser.add_argument("--device", choices=[*MEASUREMENTS], default="cpu")
    parser.add_argument("--data", type=Path, help="packed real slices")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(MEASUREMENTS["cpu"]))
    parser.add_argument("--output", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    for name in options.only or ():
        if name not in MEASUREMENTS[options.device]:
            parser.error(f"--only {name}: one of {', '.join(MEASUREMENTS[options.device])}")
    rows = json.loads(options.output.read_text()) if options.output.is_file() else []
    missing = 0
    for name in options.only or MEASUREMENTS[options.device]:
        began = time.monotonic()
        found = measure(name, options)
        if found is None:
            missing += 1
            continue
        say(f"{name}: {time.monotonic() - began:.0f} s")
        made = {(row["measurement"], row["device"]) for row in found}
        rows = [row for row in rows if (row["measurement"], row["device"]) not in made] + found
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    return 1 if missing else 0


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """The rows of a measurement, made in a process of its own; None, and why, where it failed."""
    words = ["--device", options.device] + (["--quick"] if options.quick else [])
    if options.data:
        words += ["--data", str(options.data.resolve())]
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "benchmarks.speed", name, "--work", work, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.strip()]
        warn(f"{name} is left out: {reason[-1] if reason else f'exit status {done.returncode}'}")
        return None
    shown = " ".join(["python -m benchmarks", *(["--quick"] if options.quick else [])])
    shown += f" --device {options.device} --only {name}" + (" --data brain.h5" if options.data else "")
    about = {"measurement": name, "device": options.device, **provenance(shown)}
    return [{**row, **about} for row in json.loads(done.stdout)]


def table(rows: list[dict[str, Any]]) -> str:
    """All rows as a Markdown table."""
    head = ("what", "value", "beside", "its value", "ratio", "target")
    return markdown(
        head,
        [
            (
                row["name"],
                f"{number(row['value'])} {row['unit']}".strip(),
                row["peer"],
                number(row["peer_value"]),
                number(row["ratio"]),
                row["target"],
            )
            for row in rows
        ],
    )


def number(value: float | None) -> str:
    """Three digits."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
