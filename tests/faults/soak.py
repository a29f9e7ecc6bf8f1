"""Faults, one after the other, each on a fresh copy; what came of them."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.inject import inject
from tests.faults.trials import TRIALS, prepare

BAD = ("SILENT", "CRASHED")


def soak(folder: Path, faults: int, seed: int) -> dict[str, Any]:
    """Inject ``faults`` faults below ``folder``, kinds and trials in turn; counts, and each bad end."""
    prepare(folder)
    rng = random.Random(seed)
    verdicts: dict[str, Counter[str]] = {name: Counter() for name in TRIALS}
    kinds, bad = Counter[str](), []
    for number in range(faults):
        name, trial = list(TRIALS.items())[number % len(TRIALS)]
        kind = trial.kinds[number // len(TRIALS) % len(trial.kinds)]
        copy = folder / "copy"
        shutil.copytree(folder / trial.target, copy)
        fault = inject(copy, folder / f"other {trial.target}", kind, rng)
        ended = trial.attempt(copy, folder / "packed" / "brain.h5", folder / trial.reference)
        verdicts[name][ended.verdict] += 1
        kinds[kind] += 1
        if ended.verdict in BAD:
            bad.append(f"{ended.verdict}: {fault}; {name}: exit status {ended.status}: {ended.said.strip()[-300:]}")
        shutil.rmtree(copy)
    return {
        "faults": faults,
        "seed": seed,
        "by_kind": dict(kinds),
        "verdicts": {name: dict(sorted(found.items())) for name, found in verdicts.items()},
        "silent": sum(found["SILENT"] for found in verdicts.values()),
        "bad": bad,
    }
