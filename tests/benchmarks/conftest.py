"""Small heads for the benchmarks of quality."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.phantoms import write_packed

TINY = [
    "--preset", "smoke", "--set", "data.crop=40", "model.hidden=16", "model.residual_hidden=8",
    "model.codebook_size=32", "model.code_dim=8", "precision.compile=off", "schedule.log_every=1000",
]  # fmt: skip
"""Settings with which a training of some hundred steps takes seconds."""


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed slices of 40 x 40 pixels: 32 to train on, 8 to validate, 8 to test."""
    subjects = ("train",) * 8 + ("validate",) * 2 + ("test",) * 2
    return write_packed(tmp_path_factory.mktemp("heads") / "brain.h5", subjects=subjects)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed phantoms of 64 x 64 pixels, 24 subjects with 6 slices each."""
    folder = tmp_path_factory.mktemp("phantoms")
    heads, packed = str(folder / "heads"), str(folder / "brain.h5")
    for words in (
        ["phantom", heads, "--subjects", "24", "--slices", "6", "--size", "64"],
        ["pack", heads, "--output", packed],
    ):
        subprocess.run([sys.executable, "-m", "data_tools", *words], check=True, capture_output=True)
    return folder / "brain.h5"
