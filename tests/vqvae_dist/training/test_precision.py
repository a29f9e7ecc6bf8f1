"""What ``auto`` comes to, what is said of it, and that compiling is asked for only where it can be done."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from data_tools.console import CommandError
from tests.vqvae_dist.training.conftest import Trainer
from vqvae_dist.config import PrecisionConfig
from vqvae_dist.training import runtime
from vqvae_dist.training.runtime import resolve_precision

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without GPU")
SHORT, LONG = 1.0, 1e15


@pytest.mark.parametrize(
    ("compile", "work", "compiler", "bf16", "expected"),
    [
        ("auto", SHORT, True, True, "computes in bf16, uncompiled: too short to win back the time of compiling"),
        ("auto", SHORT, True, False, "computes in float32, uncompiled: too short to win back the time of compiling"),
        ("auto", LONG, True, True, "computes in bf16, compiled"),
        ("auto", LONG, True, False, "computes in float32, compiled"),
        ("auto", LONG, False, True, "computes in bf16, uncompiled: no compiler works here (a C++ compiler is needed"),
        ("off", LONG, True, True, "computes in bf16, uncompiled, as asked"),
        ("off", LONG, True, False, "computes in float32, uncompiled, as asked"),
        ("on", SHORT, True, True, "computes in bf16, compiled"),
    ],
)
def test_auto_is_what_this_machine_does_well(
    monkeypatch: pytest.MonkeyPatch, compile: str, work: float, compiler: bool, bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(runtime, "compiler_works", lambda: compiler)
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: bf16)
    config = PrecisionConfig(compile=compile)  # type: ignore[arg-type]  # a Literal
    assert str(resolve_precision(config, work)).startswith(expected)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "compiler_works", lambda: False)
    with pytest.raises(CommandError, match=r"precision\.compile on: no compiler works here; install .*, or give off"):
        resolve_precision(PrecisionConfig(compile="on"), LONG)


def test_a_training_says_what_it_chose_and_begins_nothing_that_cannot_be_compiled(
    trainer: Trainer,
) -> None:
    words = [sys.executable, "-m", "vqvae_dist", *trainer.arguments({"precision.compile": "on"})]
    without = os.environ | {"CXX": "/nonexistent", "OMP_NUM_THREADS": "1"}
    refused = subprocess.run(words, env=without, capture_output=True, text=True, timeout=300, check=False)
    assert refused.returncode == 1
    assert "\nerror: precision.compile on: no compiler works here" in f"\n{refused.stderr}"
    assert not trainer.run.path.exists()
    assert f"{trainer.run.path}: computes in float32, uncompiled" in trainer({"precision.compile": "auto"}).text
