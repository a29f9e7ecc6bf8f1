"""``python -m tests.kills.packing``: kill packing at random moments; nothing bad may bear the final name.

Exit status 1 if a kill left something bad, or the last packing gave other bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from data_tools.phantom import phantom
from data_tools.settings import PhantomSettings
from data_tools.verify import verify
from tests.soaks import run_soak


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


def soak_on_phantoms(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """``soak`` on pictures made for it."""
    phantom(PhantomSettings(folder / "pictures", subjects=50, slices=16, size=64))
    return soak(folder / "pictures", folder / "out", kills=kills, seed=seed)


if __name__ == "__main__":
    sys.exit(
        run_soak(soak_on_phantoms, name="tests.kills.packing", about=__doc__, what="kills", count=50, failures=["bad"])
    )
