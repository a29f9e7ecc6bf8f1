"""Evaluations for tests, and the slices they are of."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_tools.slicefile import SliceReader
from vqvae_dist.config import Split
from vqvae_dist.inference.evaluate import evaluate

GROUP = "32x40_uint8"


def run_evaluate(run: Path, data: Path, output: Path, **options: Any) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """metrics.json, without NaN, and the rows of per_slice.csv."""
    options = {"split": "test", **options}
    evaluate(run=run, data=data, output=output, **options)
    text = (output / "metrics.json").read_text()
    with (output / "per_slice.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in metrics.json")), rows


def images_of(data: Path, split: Split) -> Tensor:
    """(n, 1, H, W) scaled slices of a split."""
    reader = SliceReader(data)
    return torch.from_numpy(np.stack([reader.scaled(GROUP, int(row)) for row in reader.rows(GROUP, split)]))[:, None]
