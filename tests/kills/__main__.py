"""``python -m tests.kills``: kill trainings at random moments; say what was hit and what ended otherwise."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kills.harness import CASES, STEPS, differences, hits, random_kills, run_through
from tests.phantoms import write_codes, write_packed

KILLS_A_RUN = 8


def main() -> int:
    """Run the soak; exit status 1 if any killed run ended otherwise than its unbroken one."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills to land in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the result there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), kills=given.kills, seed=given.seed)
    text = json.dumps(result, indent=2)
    print(text)
    if given.json:
        given.json.write_text(f"{text}\n")
    return 1 if result["different"] else 0


def soak(folder: Path, *, kills: int, seed: int) -> dict[str, object]:
    """Kill run after run of every case in turn until ``kills`` have landed; what was hit, and what differed."""
    began = time.monotonic()
    data = {"train-vqvae": write_packed(folder / "brain.h5"), "train-pixelcnn": write_codes(folder / "codes.h5")}
    rng = random.Random(seed)
    landed, runs, phases, different = Counter[str](), 0, Counter[str](), []
    while sum(landed.values()) < kills:
        name, case = list(CASES.items())[runs % len(CASES)]
        unbroken = folder / f"unbroken {name}"
        if not unbroken.exists():
            run_through(case, data[case.stage], unbroken, [])
        killed = folder / f"killed {runs}"
        count = run_through(case, data[case.stage], killed, random_kills(rng, KILLS_A_RUN))
        landed[name] += count
        by_phase = hits(killed)
        phases.update(by_phase)
        phases["by wall time"] += count - len(by_phase)
        different += [f"run {runs} ({name}): {text}" for text in differences(unbroken / "run", killed / "run")]
        runs += 1
        print(f"{sum(landed.values())} kills in {runs} runs, {len(different)} differences", file=sys.stderr, flush=True)
    return {
        "kills": sum(landed.values()),
        "runs": runs,
        "steps_a_run": STEPS,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "kills_by_case": dict(landed),
        "kills_by_phase": dict(sorted(phases.items())),
        "different": different,
    }


if __name__ == "__main__":
    sys.exit(main())
