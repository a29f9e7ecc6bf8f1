"""The pictures that a training took on its way, one after the other, as frames and as a GIF."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_tools.console import CommandError, warn
from vqvae_dist.files import write_file
from vqvae_dist.pictures import Picture
from vqvae_dist.run_folder import RunFolder, run_name

FRAME_MS, LAST_FRAME_MS = 400, 2000

CAPTION_HEIGHT = 16
"""Pixels above each picture for the number of its step."""


def frames_of(run: Path) -> list[Picture]:
    """The pictures of a run in order, each under its step; errors as ``step_pictures``."""
    return [with_caption(picture, f"step {step}") for step, picture in step_pictures(run).items()]


def step_pictures(run: Path) -> dict[int, Picture]:
    """Read the pictures of a run by step, in order, and name those that are gone.

    CommandError where there are none, or one is damaged.
    """
    if not run.is_dir():
        raise CommandError(f"{run}: no such run folder; a training makes one as its --output-dir")
    folder = RunFolder(run).images
    whose = run_name(RunFolder(run).read_config())
    noted = (RunFolder(run).read_summary() or {}).get("pictures") or []
    found = {int(name[1]): path for path in folder.glob("*.png") if (name := re.fullmatch(r"step_(\d+)", path.stem))}
    if not found:
        raise CommandError(f"{folder}: no pictures yet; training takes them every schedule.image_every steps")
    if gone := [step for step in noted if step not in found]:
        warn(f"{folder}: of the pictures that training took, {len(gone)} are gone: steps {', '.join(map(str, gone))}")
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
