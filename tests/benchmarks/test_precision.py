from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import precision
from tests.benchmarks.conftest import TINY


@pytest.mark.slow
def test_half_precision_is_free(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "precision.json"
    given = ["--data", heads, "--runs", tmp_path / "runs", "--output", output, "--steps", "300", "--seeds", "0"]
    words = [*map(str, given), *TINY, "schedule.validate_every=100"]
    precision.main(words)
    rows = json.loads(output.read_text())["rows"]
    bf16, fp16 = rows["equal_weights"]["bf16"], rows["equal_weights"]["fp16"]
    assert bf16["equal_codes_foreground"]["mean"] >= 0.95
    assert fp16["equal_codes_foreground"]["mean"] >= 0.99
    assert all(abs(row["mse_over_float32"]["mean"] - 1) < 0.01 for row in (bf16, fp16))
    assert rows["trained"]["no"]["mse_over_float32"]["mean"] == 1
    assert rows["trained"]["bf16"]["mse"]["mean"] < 0.01, "it was trained"
    made = (tmp_path / "runs" / "bf16_seed0" / "summary.json").stat().st_mtime_ns
    precision.main(words)
    assert (tmp_path / "runs" / "bf16_seed0" / "summary.json").stat().st_mtime_ns == made, "nothing is repeated"
    assert "| bf16 |" in capsys.readouterr().out
