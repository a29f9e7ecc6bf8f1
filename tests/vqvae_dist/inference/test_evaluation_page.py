"""docs/evaluation.md names each key of metrics.json and each column of per_slice.csv, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vqvae_dist.inference.conftest import Make
from tests.vqvae_dist.inference.evaluation import run_evaluate
from vqvae_dist.metrics.image import FIGURES

PAGE = Path(__file__).parents[3] / "docs/evaluation.md"

PLACEHOLDERS = {
    "FIGURE": rf"(?:baselines\.(?:black|mean_image)\.)?(?:{'|'.join(FIGURES)})",
    "baselines.black.FIGURE": rf"baselines\.black\.(?:{'|'.join(FIGURES)})",
    "baselines.mean_image.FIGURE": rf"baselines\.mean_image\.(?:{'|'.join(FIGURES)})",
    "SET": r"prior(?:\.reconstructions|\.real)?",
    "PIXELS": r"\d+",
}
"""What the page writes in capitals."""


def named(heading: str) -> list[str]:
    """The names in backticks in the first column of the tables under ``| heading |``."""
    found, inside = [], False
    for line in PAGE.read_text().splitlines():
        inside = line.startswith(f"| {heading} |") or (inside and line.startswith("|"))
        if inside:
            found += re.findall(r"`([^`]+)`", line.split("|")[1])
    return found


def paths(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of all keys of nested objects, with dots."""
    for name, inner in value.items():
        yield prefix + name
        if isinstance(inner, dict):
            yield from paths(inner, f"{prefix}{name}.")


def pattern(name: str) -> re.Pattern[str]:
    """What a name of the page stands for."""
    words = sorted(PLACEHOLDERS, key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, words))})", name)
    return re.compile("".join(PLACEHOLDERS.get(part) or re.escape(part) for part in parts))


@pytest.mark.parametrize("with_prior", [False, True], ids=["without a prior", "with a prior"])
def test_the_page_has_every_key_and_column(
    vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path, with_prior: bool
) -> None:
    run = vqvae_run()
    prior = {"pixelcnn": pixelcnn_run(run), "reference_draws": 1} if with_prior else {}
    metrics, rows = run_evaluate(run, pack(), tmp_path / "out", **prior)
    written, keys = list(paths(metrics)), named("key")
    known = {name: pattern(name) for name in keys}
    assert not [path for path in written if not any(one.fullmatch(path) for one in known.values())]
    unwritten = [name for name, one in known.items() if not any(map(one.fullmatch, written))]
    assert all(name.startswith(("prior.", "SET.")) for name in unwritten)
    assert not (with_prior and unwritten)
    assert len(keys) == len(set(keys))
    assert sorted(named("column")) == sorted(rows[0])
    assert {path.name for path in (tmp_path / "out").iterdir()} <= set(named("file"))
