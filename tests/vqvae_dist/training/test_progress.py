from __future__ import annotations

import re

import pytest

from tests.terminal import left_on_screen, on_a_terminal
from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.config import ScheduleConfig
from vqvae_dist.training.progress import Progress, best_text, progress_line


@pytest.mark.parametrize(("step", "left"), [(0, "17 min left"), (885, "115 s left"), (1000, "0 s left")])
def test_the_last_two_minutes_are_counted_in_seconds(step: int, left: str) -> None:
    progress = Progress(step=step, windows=[8.0])
    said = progress_line(progress, ScheduleConfig(steps=1000, batch_size=8), {"train/loss": 0.25})
    assert said == f"step {step}/1000  loss 0.25  8.0 slices/s  {left}"


def test_a_value_of_0_is_shown_and_one_that_there_is_not_is_left_out() -> None:
    values = {"train/loss": 0.0, "validate/ssim": 0.0, "validate/ssim_foreground": None, "validate/psnr": 3.0}
    assert progress_line(Progress(step=1), ScheduleConfig(steps=2), values) == "step 1/2  loss 0  ssim 0"


def test_a_best_that_was_not_measured_is_not_told() -> None:
    best = {"metric": "validate/ssim", "value": 0.5, "step": 3}
    assert best_text(best) == ", best ssim 0.5 at step 3"
    assert best_text(best | {"value": None}) == best_text(None) == ""


def test_a_training_on_a_terminal_draws_a_bar_around_its_lines(trainer: Trainer) -> None:
    status, text = on_a_terminal(["vqvae_dist", *trainer.arguments({})], {"COLUMNS": "100"})
    assert status == 0, text
    assert "training " in text
    assert "8/8" in text
    *_, last = left_on_screen(text)
    assert re.match(r"completed 8 steps in \d+ s, best ssim_foreground -?[\d.e-]+ at step \d: ", last)
