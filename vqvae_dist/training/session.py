"""Opening a run: new, continued or already completed; decided once, by the main process, for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from data_tools.console import CommandError, UsageError, say, warn
from data_tools.staging import STAGING
from vqvae_dist import allocator
from vqvae_dist.config import ScheduleConfig, TrainConfig
from vqvae_dist.config_io import flatten
from vqvae_dist.files import write_sealed
from vqvae_dist.run_folder import Attempt, OtherRankError, Ownership, RunFolder, run_name
from vqvae_dist.training.checkpoint import exported_step, step_folders
from vqvae_dist.training.generations import KEPT_BY_FRESH, finish_set_aside, next_generation, set_aside
from vqvae_dist.training.identity import attempt_record, continued_identity, new_identity, show_code_change
from vqvae_dist.training.memory import largest_divisor, smaller_micro_batch
from vqvae_dist.training.runtime import (
    Precision,
    Runtime,
    batch_shares,
    check_precision,
    default_threads,
    resolve_precision,
)


@dataclass(frozen=True)
class Session:
    """A run, opened for training by this process."""

    run: RunFolder
    runtime: Runtime
    identity: dict[str, Any]
    """What config.json holds."""
    attempt: Attempt
    owner: Ownership | None
    """None on processes other than the main one."""
    completed: bool
    """The run was completed already; there is nothing to do."""

    @property
    def name(self) -> str:
        """What its checkpoints and pictures are marked with, so that another run's are told apart."""
        return run_name(self.identity)

    @property
    def milestones(self) -> tuple[int, ...]:
        """Milestones in steps, as resolved when the run first started."""
        return tuple(self.identity["resolved"]["milestones"])

    @property
    def warmup(self) -> int:
        """Warm-up in steps, as resolved when the run first started."""
        return int(self.identity["resolved"]["warmup"])

    def shares(self, schedule: ScheduleConfig) -> tuple[int, int]:
        """Slices of a global batch for this process, and of a micro-batch: fewer where memory ran out before."""
        share, micro = batch_shares(schedule, self.runtime.processes)
        return share, largest_divisor(share, self.identity["resolved"].get("micro_batch_size", micro))

    def halve_micro_batch(self, schedule: ScheduleConfig, step: int) -> str:
        """Use micro-batches of half the size from now on, in later attempts too; return what is to be said of it."""
        share, micro = self.shares(schedule)
        smaller = smaller_micro_batch(share, micro)
        if smaller is None:
            raise CommandError(
                f"step {step}: out of memory with one slice a micro-batch; use --precision.activation-checkpointing, a "
                "smaller data.crop or model, or a device with more memory"
            )
        self.identity["resolved"]["micro_batch_size"] = smaller
        if self.owner:
            self.owner.check()
            write_sealed(self.run.config_file, self.identity)
        return (
            f"step {step}: out of memory with micro-batches of {micro}; going on with {smaller} "
            f"(accumulation {share // smaller}), the same batches of {schedule.batch_size}"
        )


def open_session(
    config: TrainConfig, *, stage: str, digest: str, work: float, fresh: bool, attempt: Attempt
) -> Session:
    """Join the other processes and open ``config.output_dir``; ``work`` is the size from ``training_work``."""
    default_threads()
    allocator.keep_freed_memory()
    cuda = torch.cuda.is_available()
    state = PartialState(cpu=not cuda, timeout=timedelta(seconds=config.runtime.collective_timeout_s))
    processes: int = state.num_processes
    batch_shares(config.schedule, processes)
    run = RunFolder(config_path(config))
    outcome: list[Any] = [None]
    owner: Ownership | None = None
    failure: CommandError | OSError | None = None
    if state.is_main_process:
        try:
            identity, owner = _open_run(
                run, config, stage=stage, digest=digest, work=work, fresh=fresh, attempt=attempt
            )
            if owner:
                identity["attempts"] = [*identity["attempts"], attempt_record(attempt, processes)]
                show_code_change(identity["attempts"])
                owner.check()  # asking git may have taken seconds
                write_sealed(run.config_file, identity)
            outcome = [(identity, owner is None)]
        except (CommandError, OSError) as error:
            failure = error
    broadcast_object_list(outcome)
    if failure:
        raise failure
    if outcome[0] is None:
        raise OtherRankError("the main process could not open the run")
    identity, completed = outcome[0]
    precision = Precision(identity["resolved"]["mixed"], identity["resolved"]["compile"])
    runtime = Runtime(precision, config.precision, timeout_s=config.runtime.collective_timeout_s)
    runtime.watch(run.path / "stacks", config.runtime.hang_timeout_s)
    return Session(run, runtime, identity, attempt, owner, completed)


def config_path(config: TrainConfig) -> Path:
    """The run folder of a config; UsageError where none is given."""
    if not config.output_dir:
        raise UsageError("output_dir is needed: --output-dir RUN, a folder for the run")
    path = Path(config.output_dir)
    if path.exists() and not path.is_dir():
        raise UsageError(f"--output-dir {path} is a file; give a folder for the run")
    return path


class Decision(NamedTuple):
    """What a command makes of a run folder, before it writes anything."""

    continued: dict[str, Any] | None
    """config.json of the run that goes on; None for a new one."""
    completed: bool = False
    unended: bool = False
    """Whether the attempt before said that it trains, and not that it ended."""
    precision: Precision | None = None
    """Of a new run."""
    generation: int | None = None
    """Of the run that ``--fresh`` puts aside, where its config.json tells."""


def _open_run(
    run: RunFolder, config: TrainConfig, *, stage: str, digest: str, work: float, fresh: bool, attempt: Attempt
) -> tuple[dict[str, Any], Ownership | None]:
    """What config.json will hold, and the right to write the run; None for a run that is completed already."""
    finish_set_aside(run, attempt)
    while True:
        seen = _content(run)
        decided = _decide(run, config, stage=stage, digest=digest, work=work, fresh=fresh)
        if _content(run) == seen:  # no other command began or took up a run here meanwhile
            break
    if decided.continued:
        if decided.unended:
            say(f"{run.path}: the attempt before did not say that it ended; should it still train, it ends now")
        return decided.continued, None if decided.completed else Ownership(run, attempt)
    assert decided.precision is not None
    say(f"{run.path}: {decided.precision}")
    run.path.mkdir(parents=True, exist_ok=True)
    owner = Ownership(run, attempt)  # before anything moves: an older attempt must not write into the new run
    if fresh:
        set_aside(run, decided.generation)
    generation = next_generation(run)
    return new_identity(config, decided.precision, stage=stage, digest=digest, generation=generation), owner


def _decide(run: RunFolder, config: TrainConfig, *, stage: str, digest: str, work: float, fresh: bool) -> Decision:
    """Whether a run is continued, completed, or begun, and how; errors as they are to be shown."""
    stored = _stored(run, fresh=fresh)
    if stored and not fresh:
        identity = continued_identity(run, stored, config, stage=stage, digest=digest)
        check_precision(identity["resolved"]["mixed"])
        summary = _summary(run, stored)
        ended = summary.get("state") == "completed"
        completed = ended and (summary.get("step") or 0) >= config.schedule.steps
        completed = completed and exported_step(run, stored["run_id"]) is not None
        if ended and not completed and not step_folders(run.checkpoints):
            raise UsageError(
                f"{run.path}: completed, and its checkpoints are gone (pruned?): it cannot "
                "go on; --fresh trains it anew and keeps it aside"
            )
        return Decision(identity, completed, unended=summary.get("state") == "running")
    _refuse_foreign(run, Path(flatten(config)["data.path"]))
    precision = resolve_precision(config.precision, work)
    check_precision(precision.mixed)
    return Decision(None, precision=precision, generation=int(stored["generation"]) if stored else None)


def _content(run: RunFolder) -> bytes | None:
    """config.json as it is now; None where there is none."""
    return run.config_file.read_bytes() if run.config_file.is_file() else None


def _stored(run: RunFolder, *, fresh: bool) -> dict[str, Any] | None:
    """config.json; None before the first, and where it is damaged but ``fresh`` puts it aside anyway."""
    if not run.config_file.is_file():
        return None
    try:
        return run.read_config()
    except CommandError as error:
        if not fresh:
            raise
        warn(f"{error}; put aside as it is")
        return None


def _summary(run: RunFolder, stored: dict[str, Any]) -> dict[str, Any]:
    """summary.json; empty where it is missing, damaged or of another run: the checkpoint tells the same."""
    try:
        summary = run.read_summary() or {}
    except CommandError as error:
        warn(f"{error}; going by the checkpoints")
        return {}
    if summary.get("run_id", stored["run_id"]) != stored["run_id"]:
        warn(f"{run.summary_file}: of another run, {summary['run_id']}; going by the checkpoints")
        return {}
    return summary


def _refuse_foreign(run: RunFolder, data: Path) -> None:
    """Raise UsageError where a new run would be mixed with files that are not its own, or move its own data away."""
    if run.config_file.is_file():
        if data.resolve().is_relative_to(run.path.resolve()):
            raise UsageError(f"--fresh would move {data}, which lies in {run.path}; give another --output-dir")
        return
    found = sorted(path.name for path in run.path.iterdir()) if run.path.is_dir() else []
    foreign = [name for name in found if name not in KEPT_BY_FRESH and not name.startswith(STAGING)]
    if foreign:
        raise UsageError(
            f"{run.path}: holds other files ({', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}) and no "
            "config.json of a run; give another --output-dir"
        )
