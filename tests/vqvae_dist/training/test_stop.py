from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainings import outcome, worst_difference
from tests.vqvae_dist.training.conftest import Trainer


def stopped_by(how: str, arguments: list[str]) -> None:
    """Run the command and ask it to stop at its third step."""
    from vqvae_dist.cli import main
    from vqvae_dist.training import loop
    from vqvae_dist.training.stop import request_stop

    original = loop.Loop.step_edge

    def step_edge(self: loop.Loop, report: Any) -> None:
        original(self, report)
        if self.progress.step == 2:
            if how == "request_stop":
                request_stop()
            else:
                os.kill(os.getpid(), signal.Signals[how])

    pytest.MonkeyPatch().setattr(loop.Loop, "step_edge", step_edge)
    raise SystemExit(main(arguments))


def stopped_by_sigterm(arguments: list[str]) -> None:
    stopped_by("SIGTERM", arguments)


def stopped_by_ctrl_c(arguments: list[str]) -> None:
    stopped_by("SIGINT", arguments)


def stopped_by_request(arguments: list[str]) -> None:
    stopped_by("request_stop", arguments)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("target", [stopped_by_sigterm, stopped_by_ctrl_c, stopped_by_request])
def test_a_stopped_run_goes_on_exactly(
    trainer: Trainer, tmp_path: Path, packed: Path, target: Any, processes: int
) -> None:
    ended = trainer.end(target=target, processes=processes)
    assert ended.status == 1, ended.text
    assert "stopped at step 3; the same command continues" in ended.text
    assert (trainer.run.read_summary() or {})["state"] == "stopped"
    assert (trainer.run.checkpoints / "latest").read_text() == "step_00000003\n"
    ended = trainer(processes=processes)
    assert ended.status == 0
    assert "going on from step 3" in ended.text
    whole = Trainer(tmp_path / "whole", packed)
    whole.folder.mkdir()
    whole(processes=processes)
    assert worst_difference(outcome(trainer.run.path), outcome(whole.run.path))[0] == 0


def signalled_while_importing(arguments: list[str]) -> None:
    """Get SIGTERM between the start of the command and its first step."""
    from vqvae_dist import cli

    original = cli.run_command_line

    def slow(*args: Any, **kwargs: Any) -> str:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM)).start()
        time.sleep(0.2)
        return original(*args, **kwargs)

    cli.run_command_line = slow
    raise SystemExit(cli.main(arguments))


def test_a_stop_that_comes_before_the_first_step_is_not_lost(trainer: Trainer) -> None:
    ended = trainer.end(target=signalled_while_importing)
    assert ended.status == 1
    assert "stopped at step 1" in ended.text


def stop_the_compiler_too() -> None:
    """Have a compiler that gets the signal as well, as all of a terminal's processes get Ctrl-C."""
    from torch._inductor import config

    compiler = Path(tempfile.mkdtemp()) / "c++"
    compiler.write_text(f"#!/bin/sh\nkill -TERM {os.getpid()}\necho many >&2\necho lines >&2\nexit 1\n")
    compiler.chmod(0o755)
    config.cpp.cxx = (str(compiler),)  # type: ignore[assignment]  # torch gives the type of the default alone
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiler.parent)  # what was compiled before is not found


def stopped_while_compiling(arguments: list[str]) -> None:
    """Run the command and get SIGTERM, and the compiler too, when the model is compiled."""
    from vqvae_dist.cli import main
    from vqvae_dist.training import runtime

    runtime.compiler_works = lambda: True
    stop_the_compiler_too()
    raise SystemExit(main(arguments))


def stopped_while_the_compiler_is_tried(arguments: list[str]) -> None:
    """Run the command and get SIGTERM, and the compiler too, when it is found out whether one works."""
    from vqvae_dist.cli import main

    stop_the_compiler_too()
    raise SystemExit(main(arguments))


def test_a_stop_that_ends_the_compiler_too_is_a_stop(trainer: Trainer) -> None:
    ended = trainer.end({"precision.compile": "on"}, target=stopped_while_compiling)
    assert ended.status == 1
    assert "stopped in step 0 (" in ended.text
    assert "error:" not in ended.text
    assert (trainer.run.read_summary() or {})["state"] == "stopped"


@pytest.mark.parametrize("compile", ["on", "auto"])
def test_a_stop_while_the_compiler_is_tried_does_not_say_that_none_works(trainer: Trainer, compile: str) -> None:
    wanted = {"precision.compile": compile, "schedule.steps": 10**9}  # so many that auto would compile
    ended = trainer.end(wanted, target=stopped_while_the_compiler_is_tried)
    assert ended.status == 1
    assert "stopped while the compiler was tried, before anything began" in ended.text
    assert not trainer.run.path.exists()


def losing_the_folder(arguments: list[str]) -> None:
    """Run the command and let a newer attempt take the folder at the third step."""
    from vqvae_dist.cli import main
    from vqvae_dist.run_folder import Attempt, Ownership
    from vqvae_dist.training import loop

    original = loop.Loop.step_edge

    def step_edge(self: loop.Loop, report: Any) -> None:
        if self.progress.step == 3:
            Ownership(self.session.run, Attempt("99", 1))
        original(self, report)

    pytest.MonkeyPatch().setattr(loop.Loop, "step_edge", step_edge)
    raise SystemExit(main(arguments))


def test_an_attempt_that_lost_the_folder_ends_without_another_row(trainer: Trainer) -> None:
    ended = trainer.end(target=losing_the_folder)
    assert ended.status == 1
    assert "attempt 1 of job 99 owns this run now" in ended.text
    assert [row["global_step"] for row in trainer.run.read_metrics()] == [1, 2]
    assert (trainer.run.read_summary() or {})["state"] == "running"
