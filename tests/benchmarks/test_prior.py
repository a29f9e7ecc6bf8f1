from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import prior
from tests.benchmarks.conftest import TINY


@pytest.mark.slow
def test_every_model_is_charged_for_the_same_codes(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "prior.json"
    words = ["--data", heads, "--runs", tmp_path / "runs", "--output", output, "--steps", 150, "--views", 2]
    words += ["--prior-steps", 150, "--reference-draws", 1, "--prior-set", "model.layers=3", "model.hidden=24"]
    prior.main([*map(str, words), *TINY])
    results = json.loads(output.read_text())["rows"]
    rows = results["models"]
    assert set(rows) == {*prior.VARIANTS, "left_and_above", "left_and_above_all_views"}
    assert all(0 < row["all"] < 5 and len(row["subjects"]) == 2 for row in rows.values())
    assert len({row["foreground"] for row in rows.values()}) == len(rows)
    samples = results["samples"]
    assert rows["ours"]["all"] == pytest.approx(samples["bits_per_code"], rel=1e-4)
    assert rows["ours"]["foreground"] == pytest.approx(samples["bits_per_code_foreground"], rel=1e-4)
    assert rows["ours"]["background"] == pytest.approx(samples["bits_per_code_background"], rel=1e-4)
    assert rows["left_and_above"]["all"] == pytest.approx(samples["context_bits_per_code"], rel=1e-4)
    assert (tmp_path / "pictures" / "samples.png").is_file()
    assert "| single_stack |" in capsys.readouterr().out
