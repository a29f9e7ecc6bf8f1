from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import prior
from benchmarks.single_stack import build_pixelcnn
from tests.benchmarks.conftest import TINY
from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.models.conditioning import Condition


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


def test_a_single_stack_is_causal_and_has_its_blind_spot() -> None:
    torch.manual_seed(0)
    config = PixelCNNModelConfig(layers=4, hidden=8, dilations=(1,))
    model = build_pixelcnn(config, codebook_size=7, classes=0).double().eval()
    codes = torch.randint(7, (1, 9, 9))
    condition = Condition(torch.zeros(1), torch.full((1,), -1), torch.zeros(1))

    def moved(row: int, column: int) -> torch.Tensor:
        other = codes.clone()
        other[0, row, column] = (other[0, row, column] + 1) % 7
        return (model(other, condition) != model(codes, condition)).any(1)[0].flatten()

    with torch.no_grad():
        for row, column in ((0, 0), (3, 4), (8, 8)):
            place = 9 * row + column
            assert not moved(row, column)[: place + 1].any()
        assert moved(3, 4)[9 * 3 + 5]
        assert moved(3, 4)[9 * 4 + 4]
        assert not moved(3, 7)[9 * 4 + 4], "above and to the right, within reach of two stacks"
