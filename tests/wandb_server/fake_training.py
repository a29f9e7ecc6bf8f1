"""A training that learns nothing: it only tells a Tracker what a real one would. Run as a program of its own.

Each step takes ``pause`` seconds and logs ``train/loss``; every tenth step also a score, a picture and a histogram.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose
from vqvae_dist.run_folder import Attempt, RunFolder
from vqvae_dist.training.tracking import Tracker

RUN_ID = "lr1e-3_ms10-20_0123abcd"


def gray(step: int) -> np.ndarray:
    """The picture of a step: a ramp of gray levels, so that any rescaling shows."""
    return np.tile(np.arange(32, dtype=np.uint8) * 4 + step % 100, (24, 1))


def make_gif(path: Path) -> Path:
    """A moving picture of two frames."""
    first, second = (Image.fromarray(gray(step)) for step in (0, 50))
    first.save(path, save_all=True, append_images=[second])
    return path


def make_tracker(options: Options) -> Tracker:
    """A tracker as the training makes it."""
    run = RunFolder(options.run)
    tracking = {"mode": options.mode, "group": options.group, "tags": ["fake"]}
    settings = {"optim": {"lr": 1e-3, "milestones": [10, 20]}, "schedule": {"steps": 1000}, "tracking": tracking}
    identity = {
        "schema": 1,
        "stage": "train-vqvae",
        "run_id": RUN_ID,
        "fingerprint": "0123abcd" * 8,
        "data_digest": "d" * 64,
        "generation": options.generation,
        "settings": {},
        "resolved": {"mixed": "no", "compile": "off", "milestones": [10, 20]},
        "attempts": [{"code": "abc123", "processes": 1}],
    }
    return Tracker(
        run,
        compose(VQVAEConfig, Layer("test", settings)),
        identity=identity,
        resume_step=options.resume,
        attempt=Attempt("77", options.attempt),
        active=True,
    )


@dataclass
class Options:
    """Command line; see main."""

    run: Path
    steps: int = 30
    resume: int = 0
    attempt: int = 0
    generation: int = 0
    mode: str = "auto"
    group: str = "sweep"
    pause: float = 0.0
    kill_at: int = 0
    linger: float = 0.0
    hang: bool = False
    end: str = "completed"


def train(options: Options) -> dict[str, float]:
    """Train; return the seconds that the start, the slowest step and the end took."""
    began = time.monotonic()
    tracker = make_tracker(options)
    slowest, start = 0.0, time.monotonic() - began
    for step in range(options.resume + 1, options.steps + 1):
        at = time.monotonic()
        tell(tracker, step)
        slowest = max(slowest, time.monotonic() - at)
        time.sleep(options.pause)
        if step == options.kill_at:
            time.sleep(options.linger)
            os.kill(os.getpid(), signal.SIGKILL)
    while options.hang and not (options.run / "go").exists():
        time.sleep(0.2)
    tracker.animation(options.steps, "animation", make_gif(options.run / "animation.gif"))
    tracker.summarise({"state": "completed", "best": {"value": 1.0}})
    at = time.monotonic()
    tracker.finish(options.end)
    return {"start": start, "slowest_step": slowest, "finish": time.monotonic() - at}


def tell(tracker: Tracker, step: int) -> None:
    """What a step logs."""
    values = {"epoch": step / 10, "train/loss": 1 / step}
    if step % 10 == 0:
        values |= {"validate/ssim": 1 - 1 / step if step < 30 else 0.5, "validate/mse": 1 / step}
    tracker.log(step, values)
    if step % 10 == 0:
        tracker.picture(step, "images/validate", gray(step))
        tracker.histogram(step, "codes", np.arange(600.0))


def main() -> None:
    """Read the options, train, and print the timings as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    for name, kind in Options.__annotations__.items():
        if name != "run":
            default = getattr(Options, name)
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=str(kind))
    print(json.dumps(train(Options(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()
