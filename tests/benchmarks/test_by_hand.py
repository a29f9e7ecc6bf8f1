from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from benchmarks import by_hand
from tests.benchmarks.conftest import TINY


@pytest.mark.slow
def test_the_sweep_is_run_compared_and_drawn(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = by_hand.SWEEP.read_text()
    smaller = sweep.replace("[1e-2, 1e-3, 1e-4]", "[1e-2]").replace(", [0.65, 0.9]", "")
    file = tmp_path / "by_hand.toml"
    file.write_text(smaller)
    monkeypatch.setattr(by_hand, "SWEEP", file)
    output = tmp_path / "results" / "by_hand.json"
    words = ["--data", heads, "--runs", tmp_path / "runs", "--output", output, "--steps", 30, "--further-lr", "1e-3"]
    by_hand.main([*map(str, words), *TINY, "schedule.validate_every=30", "tracking.mode=disabled"])
    rows = json.loads(output.read_text())["rows"]
    found = {(row["lr"], *row["milestones"]) for row in rows["members"]}
    assert found == {(lr, *falls) for lr in (1e-2, 1e-3) for falls in ((0.07, 0.6), (0.4, 0.7))}
    assert 0 < rows["best_on_test"]["ssim_foreground"] < 1
    lines = capsys.readouterr().out.splitlines()
    assert "| lr | 0.07, 0.6 | 0.4, 0.7 |" in lines
    high = {row["milestones"][0]: row["ssim_foreground"] for row in rows["members"] if row["lr"] == 1e-2}
    assert f"| 0.01 | {high[0.07]:.4f} | {high[0.4]:.4f} |" in lines
    assert (output.parent / "pictures" / "by_hand.png").is_file()


def test_a_sweep_is_written_as_it_was_read() -> None:
    sweep = tomllib.loads(by_hand.SWEEP.read_text())
    assert tomllib.loads(by_hand.toml(sweep)) == sweep
