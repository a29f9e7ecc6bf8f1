"""Runs a training again and again, killing it as a plan says, until it completes; and compares what is left."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.kills.phases import PAUSE_VARIABLE, PHASE_FILE_VARIABLE, PHASES, VARIABLE, arm
from tests.processes import command, finish, start
from tests.trainings import Settings, command_line, outcome, settings_of
from vqvae_dist.json_files import read_json
from vqvae_dist.run_folder import RunFolder

UNSTABLE = {"time", "attempt", "train/slices_per_second", "train/data_wait"}
"""Keys of a row of metrics.jsonl that tell of the attempt and not of the training."""

STEPS = 24
SHORT = {
    "schedule.steps": STEPS,
    "schedule.log_every": 1,
    "schedule.validate_every": 4,
    "schedule.image_every": 6,
    "schedule.checkpoint_every": 4,
    "model.ema": 0.9,
    "precision.deterministic": True,
}
"""20 training slices (18 code maps), a batch of 8: epochs end within steps 3, 5, 8, ..., checkpoints come between."""


EPOCHS_A_STEP = 0.4
"""About as much as a step advances, in epochs."""


PAUSE_S = 0.05
"""Slept at each step's edge where a kill by wall time is to come, so that it comes before the run ends."""


class Case(NamedTuple):
    """A training to be killed."""

    stage: str
    processes: int
    changes: Settings


CASES = {
    "vqvae": Case("train-vqvae", 1, {}),
    "vqvae, bf16, worker": Case("train-vqvae", 1, {"precision.mixed": "bf16", "data.workers": 1}),
    "vqvae, 2 processes, accumulation": Case("train-vqvae", 2, {"schedule.micro_batch_size": 2}),
    "vqvae, gradient codebook": Case("train-vqvae", 1, {"model.quantizer.kind": "gradient"}),
    "pixelcnn, accumulation": Case("train-pixelcnn", 1, {"schedule.micro_batch_size": 4}),
    "pixelcnn, 2 processes": Case("train-pixelcnn", 2, {}),
}


class Kill(NamedTuple):
    """When an attempt dies: at a phase's call on the main process, or a while after training began."""

    phase: str = ""
    call: int = 1
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """For a report."""
        return self.phase or "by wall time"


def target(arguments: list[str]) -> None:
    """An attempt: the command, armed to die."""
    arm()
    command(arguments)


def arguments_of(case: Case, data: Path, run: Path) -> list[str]:
    """The command line of a case."""
    return command_line(case.stage, settings_of(case.stage, data, run, {**SHORT, **case.changes}))


def attempt(case: Case, data: Path, folder: Path, kill: Kill | None) -> bool:
    """Run the command once; return whether it completed. A killed main process takes the others with it."""
    log = folder / "log"
    environment = {PHASE_FILE_VARIABLE: str(folder / "hit")}
    if kill and kill.phase:
        environment[VARIABLE] = f"{kill.phase}:{kill.call}"
    elif kill:
        environment[PAUSE_VARIABLE] = str(PAUSE_S)
    began = time.monotonic()
    metrics = RunFolder(folder / "run").metrics_file
    size = metrics.stat().st_size if metrics.exists() else 0
    main, *others = start(
        target,
        arguments_of(case, data, folder / "run"),
        log=log,
        processes=case.processes,
        environment=environment,
    )
    if kill and not kill.phase:
        _kill_later(main, metrics, size, kill.seconds)
    main.join(120)
    if main.exitcode != 0:
        for other in others:
            other.kill()
            other.join()
        assert main.exitcode == -9, (
            f"exit status {main.exitcode} after {time.monotonic() - began:.0f} s:\n{log.read_text()[-3000:]}"
        )
        assert not _tracebacks(log), log.read_text()[-3000:]
        return False
    assert finish(others, log=log) == [0] * len(others)
    return True


def _tracebacks(log: Path) -> list[str]:
    """Tracebacks in the log, but for those of a data worker that was handing over a batch when its parent died."""
    blocks = log.read_text().split("Traceback (most recent call last):")[1:]
    return [block for block in blocks if "resource_sharer" not in block]


def _kill_later(main: BaseProcess, metrics: Path, size: int, seconds: float) -> None:
    """Kill ``seconds`` after the first new row of metrics.jsonl, or after the process ended its work."""
    while main.is_alive() and (not metrics.exists() or metrics.stat().st_size <= size):
        time.sleep(0.002)
    main.join(seconds)
    if main.is_alive():
        main.kill()


def run_through(case: Case, data: Path, folder: Path, kills: Iterable[Kill]) -> list[float]:
    """Run the command, killed once for each of ``kills``, until it completes.

    Returns, for each kill that landed, the epochs that had been trained and logged by then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    landed: list[float] = []
    for kill in kills:
        if attempt(case, data, folder, kill):
            return landed
        rows = RunFolder(folder / "run").read_metrics()
        landed.append(rows[-1]["epoch"] if rows else 0.0)
    assert attempt(case, data, folder, None), "an attempt that nothing killed did not complete"
    return landed


def hits(folder: Path) -> list[str]:
    """The phases at which processes died."""
    file = folder / "hit"
    return file.read_text().splitlines() if file.exists() else []


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two completed runs, beside time and speed; nothing, if resuming is exact."""
    a, b = outcome(one), outcome(other)
    found = [f"{name} is in one run only" for name in sorted(a.tensors.keys() ^ b.tensors.keys())]
    for name in sorted(a.tensors.keys() & b.tensors.keys()):
        if not torch.equal(a.tensors[name], b.tensors[name]):
            found.append(f"{name} differs")
    rows = [[{k: v for k, v in row.items() if k not in UNSTABLE} for row in run.rows] for run in (a, b)]
    if rows[0] != rows[1]:
        first = next((i for i, (x, y) in enumerate(zip(*rows, strict=False)) if x != y), min(map(len, rows)))
        found.append(f"metrics.jsonl differs from row {first} on ({len(rows[0])} and {len(rows[1])} rows)")
    files = ["model/model.safetensors", "model/config.json", "checkpoints/latest", "checkpoints/best"]
    files += sorted(str(path.relative_to(one)) for path in (one / "images").glob("*"))
    for name in files:
        if not (other / name).exists():
            found.append(f"{name} is missing")
        elif (one / name).read_bytes() != (other / name).read_bytes():
            found.append(f"{name} differs")
    summaries = [read_json(run / "summary.json") for run in (one, other)]
    for key in ("state", "step", "best", "final"):
        if _stable(summaries[0][key]) != _stable(summaries[1][key]):
            found.append(f"summary.json: {key} differs")
    if not (other / "animation.gif").exists():  # made of the pictures, which were compared
        found.append("animation.gif is missing")
    left = [path.name for path in other.rglob(".staging-*")]
    return found + [f"{name} was left behind" for name in left]


def _stable(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in UNSTABLE} if isinstance(value, dict) else value


def random_kills(rng: random.Random, count: int, phases: Iterator[str]) -> list[Kill]:
    """Kills at random moments: half by phase, the next of ``phases``, and half by wall time."""
    kills = []
    for _ in range(count):
        if rng.random() < 0.5:
            phase = next(phases)
            kills.append(Kill(phase=phase, call=1 if PHASES[phase].once else rng.randint(1, 3)))
        else:
            kills.append(Kill(seconds=rng.uniform(0, 1.0)))
    return kills


def shuffled_phases(rng: random.Random) -> Iterator[str]:
    """All phases in random order, again and again, so that none is left out for long."""
    while True:
        yield from rng.sample(list(PHASES), len(PHASES))


def at_epoch_edges(epochs: Iterable[float], step: float) -> int:
    """How many of ``epochs`` lie within a ``step`` (in epochs) before or after the end of one."""
    return sum(min(epoch % 1.0, 1.0 - epoch % 1.0) < step - 1e-9 for epoch in epochs)


def again_in_an_epoch(epochs: Sequence[float]) -> int:
    """How many kills of a run came in the epoch of the kill before."""
    return sum(int(a) == int(b) for a, b in itertools.pairwise(epochs))
