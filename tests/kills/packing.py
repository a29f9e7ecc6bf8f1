"""``python -m tests.kills.packing``: kill packing at random moments; nothing bad may bear the final name."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import provenance
from data_tools.phantom import phantom
from data_tools.settings import PhantomSettings
from data_tools.verify import verify


def main() -> int:
    """Run the soak; exit status 1 if a kill left something bad, or the last packing gave other bytes."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills.packing", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the result there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        phantom(PhantomSettings(pictures, subjects=50, slices=16, size=64))
        result = soak(pictures, Path(folder) / "out", kills=given.kills, seed=given.seed)
    result |= provenance(" ".join(["python -m tests.kills.packing", *sys.argv[1:]]))
    text = json.dumps(result, indent=2)
    print(text)
    if given.json:
        given.json.write_text(f"{text}\n")
    return 1 if result["bad"] else 0


def soak(pictures: Path, folder: Path, *, kills: int, seed: int) -> dict[str, object]:
    """Pack ``pictures`` below ``folder``, killed at ``kills`` moments, and once more to the end."""
    folder.mkdir()
    output = folder / "out.h5"
    begun = time.monotonic()
    assert start(pictures, "--output", output, "--workers", "1").wait(60) == 0
    seconds = time.monotonic() - begun
    expected = contents(folder)
    output.unlink()
    rng, bad, early, late, number = random.Random(seed), [], 0, 0, 0
    while number < kills:
        process = start(pictures, "--output", output, "--workers", "1", "--overwrite")
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        ended = process.poll() is not None
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        late, number = late + ended, number + (not ended)
        early += not ended and not any(folder.glob(".staging-*"))
        if output.exists():
            with contextlib.redirect_stdout(io.StringIO()):
                verify(output)
            if output.read_bytes() != expected["out.h5"]:
                bad.append(f"kill {number}: another file under the final name")
            if rng.random() < 0.5:
                output.unlink()
    assert start(pictures, "--output", output, "--workers", "1", "--overwrite").wait(60) == 0
    if contents(folder) != expected:
        bad.append(f"packing again gave other files: {sorted(contents(folder))}")
    return {"kills": kills, "while_writing": kills - early, "before": early, "came_too_late": late, "bad": bad}


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start packing as a process group of its own."""
    command = [sys.executable, "-m", "data_tools", "pack", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, hidden ones too."""
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


if __name__ == "__main__":
    sys.exit(main())
