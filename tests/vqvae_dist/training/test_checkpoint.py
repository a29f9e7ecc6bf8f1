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
from tests.vqvae_dist.training.parts import flip_a_bit, parts_of
from vqvae_dist.run_folder import Attempt, Ownership, OwnershipLostError, RunFolder
from vqvae_dist.training import checkpoint
from vqvae_dist.training.checkpoint import Checkpoints

VALUES = {"progress": {"step": 0}, "scaler": {}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def checkpoints(run: RunFolder) -> Checkpoints:
    return Checkpoints(run, keep_last=2)


@pytest.fixture
def save(run: RunFolder, checkpoints: Checkpoints) -> Callable[..., None]:
    owner = Ownership(run, Attempt())

    def at(step: int, *, best: int | None = None, size: int = 100) -> None:
        checkpoints.save(step, parts_of(step, size=size), VALUES, best=best, owner=owner)

    return at


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


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip_a_bit,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "taken from another step": lambda path: shutil.copy(path.parent.parent / "step_00000001" / path.name, path),
}
FILES = ("model.safetensors", "optimizer.safetensors", "trainer.json", "manifest.json")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_stepped_over_aloud(
    run: RunFolder,
    checkpoints: Checkpoints,
    save: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    file: str,
    damage: str,
) -> None:
    save(1)
    save(2)
    DAMAGE[damage](run.checkpoint(2) / file)
    assert checkpoints.newest_step() == 1
    said = capfd.readouterr().err
    assert str(run.checkpoint(2)) in said
    assert said.rstrip().endswith("going back to step 1")
    assert said.count("\n") == 1


def test_a_checkpoint_under_another_step_s_name_is_damage(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    save(1)
    shutil.copytree(run.checkpoint(1), run.checkpoint(2))
    assert checkpoints.newest_step() == 1
    assert "holds another step" in capfd.readouterr().err


def test_an_unknown_file_in_a_checkpoint_is_damage(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    save(1)
    (run.checkpoint(1) / "extra.safetensors").write_bytes(b"")
    assert checkpoints.newest_step() is None
    assert "extra.safetensors" in capfd.readouterr().err


def test_with_every_checkpoint_damaged_training_starts_anew(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    save(1)
    save(2)
    for step in (1, 2):
        (run.checkpoint(step) / "manifest.json").unlink()
    assert checkpoints.newest_step() is None
    first, second = capfd.readouterr().err.splitlines()
    assert first.endswith("going back to step 1")
    assert second.endswith("starting from step 0")


def test_damaged_checkpoints_are_dropped_before_training_goes_on(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    for step in (1, 2):
        save(step)
    flip_a_bit(run.checkpoint(2) / "model.safetensors")
    checkpoints.settle(1, best=None)
    assert checkpoints.steps() == [1]
    save(2)
    assert checkpoints.newest_step() == 2
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step_00000001", "step_00000002"]


def test_a_damaged_checkpoint_is_kept_until_one_of_its_step_stands(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None]
) -> None:
    save(4)
    for _ in range(2):  # damaged again after it was trained again
        flip_a_bit(run.checkpoint(4) / "model.safetensors")
        checkpoints.settle(-1, best=None)
        save(3)
        assert (run.checkpoints / "damaged-step_00000004" / "manifest.json").is_file()
        save(4)
        assert not (run.checkpoints / "damaged-step_00000004").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "trainer.json", "manifest.json"])
def test_a_checkpoint_that_can_not_be_read_now_is_no_damage(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], file: str
) -> None:
    save(1)
    save(2)
    path = run.checkpoint(2) / file
    path.unlink()
    path.symlink_to(path.name)  # reading it is an error of the system, whoever reads
    with pytest.raises(CommandError, match=rf"{file}: {os.strerror(errno.ELOOP)}; nothing was deleted"):
        checkpoints.newest_step()


def test_an_error_of_the_disk_without_a_name_gets_one(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    save(1)
    monkeypatch.setattr(checkpoint, "sha256_file", fail)
    with pytest.raises(CommandError, match=r"step_00000001: Input/output error; nothing was deleted"):
        checkpoints.newest_step()


def test_what_only_resembles_a_checkpoint_is_left_alone(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    save(1)
    for name in ("step_00000006.bak", "step_6", "step_000000006", "notes"):
        (run.checkpoints / name).mkdir()
    (run.checkpoints / "step_00000003").write_text("a file")
    assert checkpoints.newest_step() == 1
    assert "going back to step 1" in capsys.readouterr().err
    checkpoints.settle(1, best=1)
    save(3)
    assert checkpoints.steps() == [3, 1]
    assert (run.checkpoints / "step_00000006.bak").is_dir()


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
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", folder], check=True)


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


def test_each_step_back_is_named(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        save(step, best=1)
    for step in (3, 2, 1):
        flip_a_bit(run.checkpoint(step) / "model.safetensors")
    assert checkpoints.newest_step() is None
    said = [line.rpartition(", ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["going back to step 2", "going back to step 1", "starting from step 0"]


def test_files_that_are_missing_or_unknown_are_named(
    run: RunFolder, checkpoints: Checkpoints, save: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    save(1)
    (run.checkpoint(1) / "optimizer.safetensors").rename(run.checkpoint(1) / "other.safetensors")
    assert checkpoints.newest_step() is None
    assert "files missing or unknown (optimizer.safetensors, other.safetensors)" in capsys.readouterr().err
