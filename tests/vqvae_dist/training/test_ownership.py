"""An attempt that lost its run while it was opening it writes nothing more, wherever that came."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.trainings import Settings
from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.files import write_sealed

OPENINGS = {
    "training.session:attempt_record": "config.json is not written yet",
    "training.run:restore": "the model is built",
    "training.state:load_parts": "the checkpoint is read",
    "training.run:write_summary": "the checkpoints are settled",
    "training.run:write_summary after": "rows are not cut yet",
}
"""Calls of an opening, and what is so when they come."""


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def losing_it_at(place: str, before: Path, arguments: list[str]) -> None:
    """Run the command, and let a newer attempt take the folder just before a call of its opening, or after it."""
    from vqvae_dist.cli import main
    from vqvae_dist.run_folder import Attempt, Ownership, RunFolder

    module_name, name, *when = place.replace(":", " ").split()
    module = importlib.import_module(f"vqvae_dist.{module_name}")
    original = getattr(module, name)
    folder = RunFolder(Path(arguments[arguments.index("--output-dir") + 1]))

    def taken(*args: Any, **kwargs: Any) -> Any:
        done = original(*args, **kwargs) if when else None
        Ownership(folder, Attempt("99", 1))
        before.write_bytes(pickle.dumps(content(folder.path)))
        return done if when else original(*args, **kwargs)

    setattr(module, name, taken)
    raise SystemExit(main(arguments))


@pytest.mark.parametrize("place", OPENINGS, ids=OPENINGS.get)
def test_nothing_is_written_by_an_opening_that_lost_the_run(trainer: Trainer, tmp_path: Path, place: str) -> None:
    assert trainer().status == 0
    (trainer.run.checkpoints / "step_00000008" / "manifest.json").write_text("{}")  # something to settle
    before = tmp_path / "before"
    longer: Settings = {"schedule.steps": 12}
    ended = trainer.end(longer, target=partial(losing_it_at, place, before))
    assert ended.status == 1
    assert "attempt 1 of job 99 owns this run now" in ended.text
    assert content(trainer.run.path) == pickle.loads(before.read_bytes())


def beginning_meanwhile(other: list[str], arguments: list[str]) -> None:
    """Run the command, and let another one train to its end here while this one tries its compiler."""
    from vqvae_dist.cli import main
    from vqvae_dist.training import runtime, session

    patched = pytest.MonkeyPatch()

    def resolve(*args: Any) -> Any:
        patched.undo()
        subprocess.run([sys.executable, "-m", "vqvae_dist", *other], check=True)
        return runtime.resolve_precision(*args)

    patched.setattr(session, "resolve_precision", resolve)
    raise SystemExit(main(arguments))


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [({}, 0, "completed already"), ({"optim.lr": 0.5}, 2, "this run was started with other settings: optim.lr")],
    ids=["the same", "another"],
)
def test_a_run_that_was_begun_meanwhile_is_judged_anew(
    trainer: Trainer, changes: Settings, status: int, said: str
) -> None:
    ended = trainer.end(changes, target=partial(beginning_meanwhile, trainer.arguments({})))
    assert (ended.status, said in ended.text) == (status, True), ended.text
    assert [row["global_step"] for row in trainer.run.read_metrics()][-1] == 8
    assert (trainer.run.read_summary() or {})["state"] == "completed"


def test_taking_over_from_an_attempt_that_did_not_say_that_it_ended_is_told(trainer: Trainer) -> None:
    assert trainer().status == 0
    said = f"{trainer.run.path}: the attempt before did not say that it ended; should it still train, it ends now"
    assert said not in trainer({"schedule.steps": 10}).text
    summary = trainer.run.read_summary()
    assert summary is not None
    write_sealed(trainer.run.summary_file, {**summary, "state": "running"})
    assert said in trainer({"schedule.steps": 12}).text
