"""What a completed training shows once: its way as an animation, and pictures of the best weights."""

from __future__ import annotations

from contextlib import suppress

from data_tools.console import CommandError, describe, warn
from vqvae_dist.animation import frames_of, write_gif
from vqvae_dist.pictures import save_picture
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training.checkpoint import Checkpoints
from vqvae_dist.training.session import Session
from vqvae_dist.training.stage import Stage
from vqvae_dist.training.tracking import Tracker


def make_up(run: RunFolder, checkpoints: Checkpoints) -> None:
    """Clear what a kill left half-written in a completed training, and write the animation that it kept it from."""
    with suppress(CommandError, OSError):  # no pictures are there, or the folder may only be read
        checkpoints.clear_staging()
        if not run.animation_file.exists():
            write_gif(run.animation_file, frames_of(run.path))


def show_result(stage: Stage, session: Session, tracker: Tracker, *, step: int) -> None:
    """Write animation.gif and the stage's last pictures to the run folder and W&B; a failure is a warning only.

    The main process alone calls it, after the process group is gone, so that nobody waits for it.
    """
    run = session.run
    try:
        write_gif(run.animation_file, frames_of(run.path))
        tracker.animation(step, "images/animation", run.animation_file)
        for name, picture in stage.finale(run.model / "model.safetensors").items():
            save_picture(run.path / f"{name}.png", picture)
            tracker.picture(step, f"images/{name}", picture)
    except Exception as error:  # the training is complete whatever becomes of its pictures
        warn(f"{run.path}: no last pictures: {describe(error)}")
