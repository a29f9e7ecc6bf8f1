from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import lesion


@pytest.mark.slow
def test_cells_of_a_lesion_rank_high_in_the_likelihood_map(phantoms: Path, tmp_path: Path) -> None:
    output = tmp_path / "lesion.json"
    paths = ["--data", phantoms, "--runs", tmp_path / "runs", "--output", output]
    prior = ["--prior-steps", "300", "--prior-set", "model.layers=4", "model.hidden=32"]
    tiny = ["--preset", "smoke", "--set", "precision.compile=off"]
    lesion.main([*map(str, paths), "--steps", "300", *prior, *tiny])
    rows = json.loads(output.read_text())["rows"]
    assert rows["slices"] >= 12
    assert rows["auroc"]["mean"] > 0.65
    assert rows["auroc_without"]["mean"] < 0.6
    assert rows["bits"]["mean"] > rows["bits_without"]["mean"] + 1
    assert np.asarray(Image.open(tmp_path / "pictures" / "lesion.png")).std() > 10


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    assert lesion.auroc(np.array([3.0, 1.0]), np.array([0.0, 2.0])) == pytest.approx(3 / 4)
    assert lesion.auroc(np.array([1.0]), np.array([1.0])) == pytest.approx(1 / 2)
