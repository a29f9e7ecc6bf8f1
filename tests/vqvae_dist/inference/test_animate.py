from __future__ import annotations

import itertools
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from PIL.GifImagePlugin import GifImageFile

from data_tools.console import CommandError, UsageError
from tests.trainings import empty_config
from vqvae_dist.animation import CAPTION_HEIGHT
from vqvae_dist.files import write_sealed
from vqvae_dist.inference.animate import animate
from vqvae_dist.pictures import Picture, save_picture
from vqvae_dist.run_folder import SCHEMA


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with four pictures that differ a little, all 256 grays among them; written in no order."""
    folder = make_run(tmp_path / "run")
    for step in (100, 5, 2500, 1000):
        take(folder, step, picture(step))
    (folder / "images" / "notes.png").write_bytes(b"not a picture of a step")
    return folder


def make_run(folder: Path) -> Path:
    """A run that has begun."""
    folder.mkdir()
    values = empty_config() | {"schema": SCHEMA, "run_id": "a", "generation": 0}
    write_sealed(folder / "config.json", values)
    return folder


def take(run: Path, step: int, pixels: Picture, taken_at: int | None = None) -> None:
    """Leave a picture as training does."""
    about = {"step": str(taken_at or step), "run": "a generation 0"}
    save_picture(run / "images" / f"step_{step:08d}.png", pixels, about)


def picture(step: int) -> Picture:
    gray = np.arange(60 * 90, dtype=np.uint8).reshape(60, 90)
    return gray + (np.random.default_rng(step).random(gray.shape) < 0.1).astype(np.uint8) * np.uint8(step % 251)


def test_gif_has_every_step_in_order_with_exact_grays(run: Path, tmp_path: Path) -> None:
    animate(run=run, output=tmp_path / "out" / "training.gif")
    with Image.open(tmp_path / "out" / "training.gif") as movie:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(movie)]
        assert movie.info["loop"] == 0
    assert len(frames) == 4
    for frame, step in zip(frames, (5, 100, 1000, 2500), strict=True):
        assert (frame[CAPTION_HEIGHT:] == picture(step)).all()
    assert all((a[:CAPTION_HEIGHT] != b[:CAPTION_HEIGHT]).any() for a, b in itertools.pairwise(frames))


def test_pictures_that_are_gone_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sealed(run / "summary.json", {"state": "completed", "pictures": [5, 100, 200, 1000, 2000, 2500]})
    animate(run=run, output=tmp_path / "training.gif")
    said = capsys.readouterr().err
    assert f"warning: {run / 'images'}: of the pictures that training took, 2 are gone: steps 200, 2000\n" in said
    write_sealed(run / "summary.json", {"state": "completed", "pictures": [5, 100, 1000, 2500]})
    animate(run=run, output=tmp_path / "again.gif")
    assert "gone" not in capsys.readouterr().err


def test_the_last_frame_stays_longest(run: Path, tmp_path: Path) -> None:
    animate(run=run, output=tmp_path / "training.gif")
    with Image.open(tmp_path / "training.gif") as movie:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(movie)]
    assert durations[-1] > 2 * max(durations[:-1])


def test_equal_pictures_are_all_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for step in (1, 2, 3):
        take(run, step, picture(0))
    animate(run=tmp_path / "run", output=tmp_path / "training.gif")
    with Image.open(tmp_path / "training.gif") as movie:
        assert isinstance(movie, GifImageFile)
        assert movie.n_frames == 3


def test_a_run_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such run folder"):
        animate(run=tmp_path / "run", output=tmp_path / "training.gif")
    make_run(tmp_path / "run")
    with pytest.raises(CommandError, match="no pictures yet"):
        animate(run=tmp_path / "run", output=tmp_path / "training.gif")


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_a_damaged_picture_is_named(run: Path, tmp_path: Path, keep: int) -> None:
    path = run / "images" / "step_00000100.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CommandError, match=r"step_00000100\.png: not a readable PNG"):
        animate(run=run, output=tmp_path / "training.gif")


def test_a_picture_of_another_size_is_named(run: Path, tmp_path: Path) -> None:
    take(run, 3000, np.zeros((10, 20), np.uint8))
    with pytest.raises(CommandError, match=r"step_00003000\.png: 20x10 pixels, the first 90x60"):
        animate(run=run, output=tmp_path / "training.gif")


def test_other_formats_and_existing_files_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.gif or \.mp4"):
        animate(run=run, output=tmp_path / "training.avi")
    animate(run=run, output=tmp_path / "training.gif")
    with pytest.raises(UsageError, match="exists"):
        animate(run=run, output=tmp_path / "training.gif")
    animate(run=run, output=tmp_path / "training.gif", overwrite=True)


def fake_ffmpeg(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called ffmpeg first on PATH; ``script`` sees the output's name as $out."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\nfor out; do :; done\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_mp4_is_made_by_ffmpeg_from_raw_frames(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path, 'cat > "$out"; echo "$*" > "$0.arguments"', monkeypatch)
    animate(run=run, output=tmp_path / "an out" / "training.mp4")
    height = 60 + CAPTION_HEIGHT
    frames = np.frombuffer((tmp_path / "an out" / "training.mp4").read_bytes(), np.uint8).reshape(-1, height, 90)
    assert (frames[1, CAPTION_HEIGHT:] == picture(100)).all()
    assert (frames[-1] == frames[3]).all()
    assert f"-pix_fmt gray -s 90x{height}" in (tmp_path / "ffmpeg.arguments").read_text()


@pytest.mark.parametrize("script", ["echo no such encoder >&2; exit 1", "cat > /dev/null"])
def test_a_failing_ffmpeg_leaves_nothing_and_says_why(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    fake_ffmpeg(tmp_path, script, monkeypatch)
    with pytest.raises(CommandError, match=r"ffmpeg failed: (no such encoder|it wrote no file)"):
        animate(run=run, output=tmp_path / "out" / "training.mp4")
    assert list((tmp_path / "out").iterdir()) == []


def test_mp4_without_ffmpeg_says_what_to_do(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(CommandError, match=r"needs ffmpeg: .* --output FILE\.gif"):
        animate(run=run, output=tmp_path / "out" / "training.mp4")
    assert not (tmp_path / "out").exists()


def test_a_picture_of_another_step_is_not_shown_in_its_place(run: Path, tmp_path: Path) -> None:
    take(run, 100, picture(100), taken_at=1000)
    with pytest.raises(CommandError, match=r"step_00000100\.png: not the picture that this run took at step 100"):
        animate(run=run, output=tmp_path / "training.gif")


def test_mp4_is_made_after_the_installation_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # no ffmpeg of the machine: the one that is installed with us
    animate(run=run, output=tmp_path / "training.mp4")
    assert b"ftyp" in (tmp_path / "training.mp4").read_bytes()[:12]
