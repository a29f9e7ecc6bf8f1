"""``animate``: the pictures that a training took on its way, one after the other."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_tools.console import CommandError, UsageError, say
from vqvae_dist.files import staging_path, write_file
from vqvae_dist.inference.output import claim
from vqvae_dist.pictures import Picture
from vqvae_dist.run_folder import RunFolder, run_name

FRAME_MS, LAST_FRAME_MS = 400, 2000

CAPTION_HEIGHT = 16
"""Pixels above each picture for the number of its step."""


def animate(*, run: Path, output: Path, overwrite: bool = False) -> None:
    """Show the same slices through a training, from the pictures in its run folder.

    A GIF keeps all 256 gray levels exactly. An MP4 is for presentations and is not lossless; it needs ffmpeg.

    Args:
        run: run folder of train-vqvae or train-pixelcnn.
        output: FILE.gif or FILE.mp4.
        overwrite: replace an earlier animation.
    """
    writers = {".gif": write_gif, ".mp4": write_mp4}
    suffix = output.suffix.lower()
    if suffix not in writers:
        raise UsageError(f"{output}: --output must end in .gif or .mp4")
    pictures = step_pictures(run)
    if suffix == ".mp4":
        find_ffmpeg()  # told before a folder is made
    claim([output], overwrite=overwrite)
    writers[suffix](output, [with_caption(picture, f"step {step}") for step, picture in pictures.items()])
    say(f"{output}: {len(pictures)} pictures, steps {min(pictures)} to {max(pictures)}")


def step_pictures(run: Path) -> dict[int, Picture]:
    """Read the pictures of a run by step, in order; CommandError where there are none or one is damaged."""
    if not run.is_dir():
        raise CommandError(f"{run}: no such run folder")
    folder = RunFolder(run).images
    whose = run_name(RunFolder(run).read_config())
    found = {int(name[1]): path for path in folder.glob("*.png") if (name := re.fullmatch(r"step_(\d+)", path.stem))}
    if not found:
        raise CommandError(f"{folder}: no pictures yet; training takes them every schedule.image_every steps")
    pictures = {step: _read(found[step], step, whose) for step in sorted(found)}
    first = next(iter(pictures.values())).shape
    for step, picture in pictures.items():
        if picture.shape != first:
            raise CommandError(
                f"{found[step]}: {picture.shape[1]}x{picture.shape[0]} pixels, the first {first[1]}x{first[0]}"
            )
    return pictures


def with_caption(picture: Picture, text: str) -> Picture:
    """Write a line of text above a picture (H, W), as (H + CAPTION_HEIGHT, W); its own pixels stay as they are."""
    strip = Image.new("L", (picture.shape[1], CAPTION_HEIGHT))
    ImageDraw.Draw(strip).text((2, 2), text, fill=255, font=ImageFont.load_default())
    return np.concatenate([np.asarray(strip), picture])


def write_gif(path: Path, frames: list[Picture]) -> None:
    """Write frames (H, W) as a looping GIF with a palette of all 256 grays."""
    images = [Image.fromarray(frame) for frame in frames]
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_FRAME_MS]
    content = io.BytesIO()
    # disposal and optimize are left alone: frames are stored whole, so nothing is guessed from the one before.
    images[0].save(content, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    write_file(path, content.getvalue())


def write_mp4(path: Path, frames: list[Picture]) -> None:
    """Write frames (H, W) as H.264 through ffmpeg; UsageError without ffmpeg, CommandError where it fails."""
    height, width = frames[0].shape
    repeated = [*frames, *[frames[-1]] * (LAST_FRAME_MS // FRAME_MS - 1)]
    staged = staging_path(path).with_suffix(".mp4")
    source = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", str(1000 / FRAME_MS), "-i", "-"]
    # Players want even sides and yuv420p; a black row or column is added, nothing is scaled.
    target = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p"]
    command = [find_ffmpeg(), "-v", "error", "-y", *source, *target, str(staged.absolute())]
    try:
        done = subprocess.run(command, input=np.stack(repeated).tobytes(), capture_output=True, check=False)
        if done.returncode != 0 or not staged.is_file():
            reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["it wrote no file"])[-1]
            raise CommandError(f"{path}: ffmpeg failed: {reason}; a GIF needs no ffmpeg (--output FILE.gif)")
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def find_ffmpeg() -> str:
    """Find ffmpeg on PATH, or the one that the package imageio-ffmpeg brings; UsageError without any."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except ModuleNotFoundError:
        raise UsageError(
            "an MP4 needs ffmpeg: install it, or the package imageio-ffmpeg, or give --output FILE.gif"
        ) from None


def _read(path: Path, step: int, whose: str) -> Picture:
    try:
        with Image.open(path) as image:
            written = image.info.get("step"), image.info.get("run")
            pixels = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises on damage
        raise CommandError(f"{path}: not a readable PNG ({error})") from None
    if written != (str(step), whose):
        raise CommandError(f"{path}: not the picture that this run took at step {step}")
    return pixels
