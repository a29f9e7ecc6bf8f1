from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.console import CommandError
from tests.vqvae_dist.training.parts import flip_a_bit
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training import checkpoint
from vqvae_dist.training.checkpoint import Checkpoints

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
