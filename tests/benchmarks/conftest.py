"""Small heads for the benchmarks of quality."""

from __future__ import annotations

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
