"""``animate``: the pictures that a training took on its way, one after the other."""

from __future__ import annotations

import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np

from data_tools.console import CommandError, UsageError, counted, say
from data_tools.flags import RunPath, Switch
from data_tools.staging import staged
from vqvae_dist.animation import FRAME_MS, LAST_FRAME_MS, frames_of, write_gif
from vqvae_dist.inference.output import claim
from vqvae_dist.pictures import Picture


def animate(*, run: RunPath, output: Path, overwrite: Switch = False) -> None:
    """Show the same slices through a training, from the pictures in its run folder.

    A GIF keeps all 256 gray levels exactly. An MP4 is for presentations and is not lossless; it needs ffmpeg.

    Args:
        run: Run folder of train-vqvae or train-pixelcnn.
        output: FILE.gif or FILE.mp4.
        overwrite: Replace an earlier animation.
    """
    writers = {".gif": write_gif, ".mp4": write_mp4}
    suffix = output.suffix.lower()
    if suffix not in writers:
        raise UsageError(f"{output}: --output must end in .gif or .mp4")
    frames = frames_of(run)
    if suffix == ".mp4":
        find_ffmpeg()  # told before a folder is made
    claim([output], overwrite=overwrite)
    writers[suffix](output, frames)
    say(f"{output}: {counted(len(frames), 'picture')}")


def write_mp4(path: Path, frames: list[Picture]) -> None:
    """Write frames (H, W) as H.264 through ffmpeg; CommandError without ffmpeg or where it fails."""
    height, width = frames[0].shape
    repeated = [*frames, *[frames[-1]] * (LAST_FRAME_MS // FRAME_MS - 1)]
    source = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", str(1000 / FRAME_MS), "-i", "-"]
    # Players want even sides and yuv420p; a black row or column is added, nothing is scaled.
    target = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p"]
    with staged(path) as folder:
        film = folder / "film.mp4"
        command = [find_ffmpeg(), "-v", "error", "-y", *source, *target, str(film.absolute())]
        done = subprocess.run(command, input=np.stack(repeated).tobytes(), capture_output=True, check=False)
        if done.returncode != 0 or not film.is_file():
            reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["it wrote no file"])[-1]
            raise CommandError(f"{path}: ffmpeg failed: {reason}; a GIF needs no ffmpeg (--output FILE.gif)")
        film.replace(path)


def find_ffmpeg() -> str:
    """Find ffmpeg on PATH, or the one that the package imageio-ffmpeg brings; CommandError without any."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except ModuleNotFoundError:
        raise CommandError(
            "an MP4 needs ffmpeg: install it, or the package imageio-ffmpeg, or give --output FILE.gif"
        ) from None
