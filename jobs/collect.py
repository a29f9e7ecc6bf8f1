"""What the members of a sweep came to: their results, and the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_tools.console import CommandError
from jobs.folder import Plan, PlannedMember, SweepFolder
from jobs.progress import Progress, read_progress
from vqvae_dist.files import write_json
from vqvae_dist.run_folder import RunFolder


@dataclass(frozen=True)
class Result:
    """A member and what its run folder says."""

    member: PlannedMember
    run: RunFolder
    progress: Progress

    @property
    def value(self) -> float | None:
        """The selection metric at the best checkpoint; None before the first validation."""
        return (self.progress.best or {}).get("value")

    @property
    def step(self) -> int | None:
        """The step of the best checkpoint."""
        return (self.progress.best or {}).get("step")


def read_results(folder: SweepFolder, plan: Plan) -> list[Result]:
    """The results of the members that the sweep file names; one that can't be read counts as not there."""
    results = []
    for member in plan.current:
        run = folder.run(member.run_id)
        try:
            progress = read_progress(run)
        except CommandError as error:
            progress = Progress(reason=str(error))
        results.append(Result(member, run, progress))
    return results


def choose_best(folder: SweepFolder, plan: Plan) -> dict[str, Any]:
    """The content of best.json: the completed member with the best value of the selection metric.

    Members that failed, or haven't ended, are listed but can't be chosen. CommandError if none is completed.
    """
    results = read_results(folder, plan)
    complete = [result for result in results if result.progress.state == "completed" and result.value is not None]
    if not complete:
        raise CommandError(
            f"{plan.name}: no member is completed yet, so none is the best; see `python -m jobs status {plan.name}`"
        )
    sign = 1 if plan.selection.largest else -1
    # Of equal values the first in the sweep file wins, so that the choice can be repeated.
    best = max(complete, key=lambda result: sign * (result.value or 0.0))
    return {
        "choice": best.member.run_id,
        "metric": plan.select,
        "value": best.value,
        "step": best.step,
        "label": best.member.label,
        "run": str(best.run.path.relative_to(folder.path)),
        "candidates": [_candidate(result) for result in results],
    }


def _candidate(result: Result) -> dict[str, Any]:
    return {
        "run_id": result.member.run_id,
        "label": result.member.label,
        "state": result.progress.state or "pending",
        "value": result.value,
        "step": result.step,
    }


def write_best(folder: SweepFolder, best: dict[str, Any]) -> None:
    """Write best.json."""
    write_json(folder.best_file, best)
