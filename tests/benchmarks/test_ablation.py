from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import ablation
from tests.benchmarks.conftest import TINY
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose, nest, preset_layer


@pytest.mark.parametrize("name", ablation.CHANGES)
def test_every_change_is_one_of_the_preset(name: str) -> None:
    preset = preset_layer("full_resolution")
    changed = compose(VQVAEConfig, preset, Layer(name, nest(ablation.CHANGES[name])))
    same = changed == compose(VQVAEConfig, preset)
    assert same == (name == "preset"), "a row that changes nothing says nothing"


@pytest.mark.slow
def test_rows_are_added_without_repeating_what_exists(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ablation.json"
    words = ["--data", heads, "--runs", tmp_path / "runs", "--output", output, "--steps", 30, "--seeds", 0, 1, *TINY]
    ablation.main([*map(str, words), "--only", "no_decay"])
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/summary.json")}
    assert len(made) == 4
    ablation.main([*map(str, words), "--only", "preset"])
    assert set(json.loads(output.read_text())["rows"]) == {"preset", "no_decay"}, "earlier rows are kept"
    ablation.main([*map(str, words), "--only", "no_decay", "--test"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/summary.json")} == made
    rows = json.loads(output.read_text())["rows"]
    preset, changed = rows["preset"], rows["no_decay"]
    assert preset["gain"] == {"mean": 0, "sd": 0, "values": [0, 0]}
    values = [row["validate"]["ssim_foreground"]["values"] for row in (changed, preset)]
    assert changed["gain"]["values"] == pytest.approx([a - b for a, b in zip(*values, strict=True)])
    assert len(set(values[0])) == 2, "seeds differ"
    assert all(0 < rate < 1 for rate in preset["validate"]["context_bpp"]["values"])
    assert 0 < changed["test"]["worst"] <= changed["test"]["ssim_foreground"]["mean"]
    printed = capsys.readouterr().out
    assert "| no_decay |" in printed
    assert "{" not in printed, "rows of an earlier call are written as figures too"
