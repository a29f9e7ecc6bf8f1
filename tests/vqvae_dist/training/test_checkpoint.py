from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from data_tools.console import CommandError
from tests.small_disk import on_small_disk
from tests.vqvae_dist.training.parts import VALUES, parts_of
from vqvae_dist.run_folder import Attempt, Ownership, OwnershipLostError, RunFolder
from vqvae_dist.training.checkpoint import Checkpoints


def test_what_is_saved_is_read_back(run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]) -> None:
    save(5, best=5)
    assert checkpoints.newest_step() == 5
    found = checkpoints.load(5)
    assert found.step == 5
    assert torch.equal(found.tensors["model"]["weight"], torch.full((100,), 5.0))
    assert found.values["scaler"] == {}
    assert (run.checkpoints / "latest").read_text() == (run.checkpoints / "best").read_text() == "step_00000005\n"


def test_newest_and_best_are_kept(run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]) -> None:
    for step in (1, 2, 3, 4, 5):
        save(step, best=min(step, 2))
    assert checkpoints.steps() == [5, 4, 2]
    assert (run.checkpoints / "best").read_text() == "step_00000002\n"
    assert (run.checkpoints / "latest").read_text() == "step_00000005\n"


def test_what_a_kill_left_undone_after_the_rename_is_done(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    for step in (1, 2, 3):
        save(step, best=step)
    (run.checkpoints / "latest").write_text("step_00000002\n")
    (run.checkpoints / "best").write_text("step_00000002\n")
    shutil.copytree(run.checkpoint(3), run.checkpoint(1))
    checkpoints.settle(3, best=3)
    assert (run.checkpoints / "latest").read_text() == (run.checkpoints / "best").read_text() == "step_00000003\n"
    assert checkpoints.steps() == [3, 2]


def test_a_run_without_a_good_checkpoint_points_nowhere(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    save(1, best=1)
    checkpoints.settle(-1, best=None)
    assert [path.name for path in run.checkpoints.iterdir()] == ["damaged-step_00000001"]


def test_left_overs_of_a_kill_are_cleared(run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]) -> None:
    save(1)
    (run.checkpoints / ".staging-1-step_00000002").mkdir()
    (run.path / ".staging-2-summary.json").write_text("{")
    checkpoints.clear_staging()
    assert not list(run.path.rglob(".staging-*"))
    assert checkpoints.newest_step() == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with on_small_disk(tmp_path, "2m") as folder:
        yield folder


def test_a_full_disk_is_named_and_the_last_good_checkpoint_kept(small_disk: Path) -> None:
    run = RunFolder(small_disk / "run")
    run.path.mkdir()
    checkpoints, owner = Checkpoints(run, keep_last=2), Ownership(run, Attempt())
    checkpoints.save(1, parts_of(1), VALUES, best=None, owner=owner)
    with pytest.raises(CommandError) as caught:
        checkpoints.save(2, parts_of(2, size=1_000_000), VALUES, best=None, owner=owner)
    reason = os.strerror(errno.ENOSPC)
    wanted = f"{run.checkpoint(2)}: could not be written: {reason}; the last good checkpoint is step 1"
    assert str(caught.value) == wanted
    assert checkpoints.newest_step() == 1
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step_00000001"]
    checkpoints.save(2, parts_of(2), VALUES, best=None, owner=owner)
    assert checkpoints.newest_step() == 2


def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    run = RunFolder(small_disk / "run")
    run.path.mkdir()
    checkpoints, owner = Checkpoints(run, keep_last=2), Ownership(run, Attempt())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(CommandError, match="Read-only file system; there is no checkpoint yet"):
        checkpoints.save(1, parts_of(1), VALUES, best=None, owner=owner)


def test_an_older_attempt_writes_nothing_more(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    save(1)
    Ownership(run, Attempt("77", 2))
    with pytest.raises(OwnershipLostError, match="attempt 2 of job 77 owns this run now"):
        save(2)
    assert checkpoints.steps() == [1]


def test_the_first_checkpoint_is_that_of_step_0_too(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    save(0)
    save(3)
    checkpoints.settle(0, best=None)
    assert checkpoints.steps() == [0]
    assert (run.checkpoints / "latest").read_text() == "step_00000000\n"
