"""``python -m tests.kills``: kill trainings at random moments; say what was hit and what ended otherwise.

Trainings run on the GPU where there is one, with deterministic kernels; those of two processes need two GPUs then.
Exit status 1 if a killed run ended otherwise than its unbroken one, or no kill came in a phase.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from tests.kills.harness import (
    CASES,
    EPOCHS_A_STEP,
    STEPS,
    again_in_an_epoch,
    at_epoch_edges,
    differences,
    hits,
    random_kills,
    run_through,
    shuffled_phases,
)
from tests.kills.phases import PHASES
from tests.phantoms import write_codes, write_packed
from tests.soaks import run_soak

KILLS_A_RUN = 8


def soak(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill run after run of every case in turn until ``kills`` have landed and every phase was hit."""
    began = time.monotonic()
    data = {"train-vqvae": write_packed(folder / "brain.h5"), "train-pixelcnn": write_codes(folder / "codes.h5")}
    rng = random.Random(seed)
    deck = shuffled_phases(rng)
    gpus = torch.cuda.device_count()
    cases = [(name, case) for name, case in CASES.items() if not gpus or case.processes <= gpus]
    landed, runs, phases, epochs, different = Counter[str](), 0, Counter[str](), Counter[str](), []
    while sum(landed.values()) < kills or (set(PHASES) - set(phases) and sum(landed.values()) < 2 * kills):
        name, case = cases[runs % len(cases)]
        unbroken = folder / f"unbroken {name}"
        if not unbroken.exists():
            run_through(case, data[case.stage], unbroken, [])
        killed = folder / f"killed {runs}"
        at = run_through(case, data[case.stage], killed, random_kills(rng, KILLS_A_RUN, deck))
        landed[name] += len(at)
        by_phase = hits(killed)
        phases.update(by_phase)
        phases["by wall time"] += len(at) - len(by_phase)
        epochs["at the edge of an epoch"] += at_epoch_edges(at, EPOCHS_A_STEP)
        epochs["again in the epoch of the kill before"] += again_in_an_epoch(at)
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
        "kills_by_epoch": dict(epochs),
        "phases_not_hit": sorted(set(PHASES) - set(phases)),
        "different": different,
    }


if __name__ == "__main__":
    failures = ["different", "phases_not_hit"]
    sys.exit(run_soak(soak, name="tests.kills", about=__doc__, what="kills", count=100, failures=failures))
