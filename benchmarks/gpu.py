"""Everything that wants a GPU, in one command: speed, kills, quality, precision, the prior and its samples.

    python -m benchmarks.gpu --mri FOLDER [--minutes 60] [--only NAME ...]
    python -m benchmarks.gpu --mri FOLDER --small --results /tmp/results          (on a CPU: whether it works)

FOLDER holds ``ds002748_png`` with ``train`` and ``test``. A part that ends badly or takes longer than what is left of
--minutes is named, and the next goes on: what there is by then is in the results. Given again, trainings that were
completed are not repeated. Each part is a command of its own, printed before it runs; exit status 1 unless all ended
well.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import ROOT
from data_tools.console import say, warn

SOURCE = "ds002748_png"
LIMIT = 124
"""Exit status that stands for running out of time, as timeout(1) has it."""


class Size(NamedTuple):
    """How much is done."""

    kills: int
    steps: int
    precision: list[object]
    prior: list[object]
    speed: list[object]


FULL = Size(
    kills=20,
    steps=20000,
    precision=["--steps", 1500, "--seeds", 0, 1, 2],
    prior=["--views", 8, "--prior-steps", 6000, "--prior-set", "model.layers=16", "model.hidden=192",
           "model.attention=4", "model.ema=0.999", "--only", "unconditional", "single_stack"],
    speed=["--device", "cuda"],
)  # fmt: skip
SMALL = Size(
    kills=1,
    steps=24,
    precision=["--steps", 4, "--seeds", 0, "--preset", "smoke"],
    prior=["--views", 1, "--prior-steps", 4, "--prior-set", "model.layers=2", "model.hidden=8",
           "--only", "unconditional", "--reference-draws", 1],
    speed=["--only", "starting"],
)  # fmt: skip


def parts(mri: Path, runs: Path, results: Path, size: Size) -> dict[str, list[object]]:
    """The words after ``python -m`` of each part, the most wanted first; ``quality`` packs what the others read."""
    data = runs / f"{SOURCE}.h5"
    quality = ["benchmarks.datasets", "--mri", mri, "--only", SOURCE, "--steps", size.steps]
    return {
        "quality": [*quality, "--runs", runs, "--results", results],
        "speed": ["benchmarks", *size.speed, "--data", data, "--output", results / "benchmarks.json"],
        "kills": ["tests.kills", "--kills", size.kills, "--json", results / "kills_gpu.json"],
        "precision": ["benchmarks.precision", "--data", data, "--runs", runs / "precision",
                      "--output", results / "precision_gpu.json", *size.precision],
        "prior": ["benchmarks.prior", "--data", data, "--runs", runs / "prior", "--vqvae", runs / SOURCE,
                  "--output", results / "prior_gpu.json", *size.prior],
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 0 if all ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mri", type=Path, required=True, help=f"folder that holds {SOURCE}")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="quality, speed, kills, precision, prior")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="where runs go (not committed)")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--small", action="store_true", help="minutes on a CPU: to see that everything works")
    options = parser.parse_args(arguments)
    where = (from_root(options.mri), from_root(options.runs), from_root(options.results))
    chosen = parts(*where, SMALL if options.small else FULL)
    for name in options.only or ():
        if name not in chosen:
            parser.error(f"--only {name}: one of {', '.join(chosen)}")
    end = time.monotonic() + 60 * options.minutes
    options.results.mkdir(parents=True, exist_ok=True)
    status = {name: run(name, chosen[name], end) for name in options.only or chosen}
    return 1 if any(status.values()) else 0


def from_root(path: Path) -> Path:
    """A path as the parts take it, which run in ROOT: results name commands, and should hold no machine's paths."""
    full = path.resolve()
    return full.relative_to(ROOT) if full.is_relative_to(ROOT) else full


def run(name: str, words: list[object], end: float) -> int:
    """Run a part until ``end`` at most; return its exit status, said aloud."""
    command = [sys.executable, "-m", *map(str, words)]
    began = time.monotonic()
    say(f"{name}: {shlex.join(command)}")
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        status = process.wait(max(0.0, end - began))
    except subprocess.TimeoutExpired:
        status = LIMIT
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = f"{name}: {time.monotonic() - began:.0f} s, "
    if status:
        warn(said + ("out of time" if status == LIMIT else f"exit status {status}"))
    else:
        say(said + "done")
    return status


if __name__ == "__main__":
    sys.exit(main())
