"""``make demo``, whole: what a newcomer runs first must do what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo's sweep, made by the one command."""
    runs = tmp_path_factory.mktemp("runs")
    began = time.monotonic()
    done = subprocess.run(["make", "demo", f"RUNS={runs}"], cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-3000:], done.stderr[-3000:], f"make demo took {time.monotonic() - began:.0f} s")
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(runs / "demo" / "report.html") in done.stdout
    return runs / "demo"


@pytest.fixture(scope="module")
def status(demo: Path) -> list[dict[str, Any]]:
    answer = subprocess.run(
        [sys.executable, "-m", "jobs", "status", str(demo), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(answer.stdout)
    return rows


@pytest.fixture(scope="module")
def members(status: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in status if row["stage"] == "train-vqvae"]


@pytest.fixture(scope="module")
def pipeline(demo: Path) -> Path:
    (folder,) = (demo / "pipeline").iterdir()
    return folder


@pytest.fixture(scope="module")
def evaluation(pipeline: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((pipeline / "evaluate" / "metrics.json").read_text())
    return content


def best_scores(demo: Path, members: list[dict[str, Any]]) -> list[float]:
    summaries = [json.loads((demo / "runs" / row["run_id"] / "summary.json").read_text()) for row in members]
    return sorted(summary["best"]["value"] for summary in summaries)


def test_all_four_members_complete(members: list[dict[str, Any]]) -> None:
    assert [row["state"] for row in members] == ["completed"] * 4


def test_best_member_is_good_and_the_worst_is_worse(demo: Path, members: list[dict[str, Any]]) -> None:
    scores = best_scores(demo, members)
    assert scores[-1] >= 0.6
    assert scores[0] < scores[-1]


def test_best_json_names_the_best_member(demo: Path, members: list[dict[str, Any]]) -> None:
    best = json.loads((demo / "best.json").read_text())
    summary = json.loads((demo / "runs" / best["choice"] / "summary.json").read_text())
    assert summary["best"]["value"] == best_scores(demo, members)[-1]


def test_a_quarter_of_the_codes_is_used(evaluation: dict[str, Any]) -> None:
    assert evaluation["codebook"]["usage"] >= 0.25


def test_prior_beats_the_unigram_on_held_out_subjects(evaluation: dict[str, Any]) -> None:
    assert evaluation["split"] == "test"
    assert evaluation["prior"]["bits_per_code"] < evaluation["prior"]["unigram_bits_per_code"]


def test_generated_picture_is_not_constant(pipeline: Path) -> None:
    picture = np.asarray(Image.open(pipeline / "Pic" / "PixelCNN_generate.jpg").convert("L"))
    assert picture.std() > 5


def test_same_seed_draws_the_same_and_another_seed_draws_others(demo: Path, pipeline: Path, tmp_path: Path) -> None:
    best = json.loads((demo / "best.json").read_text())["choice"]
    pixels = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        target = tmp_path / name / "drawn.png"
        command = ["generate", "--vqvae", demo / "runs" / best, "--pixelcnn", pipeline / "prior"]
        command += ["--num-samples", 2, "--seed", seed, "--output", target]
        subprocess.run([sys.executable, "-m", "vqvae_dist", *map(str, command)], cwd=ROOT, check=True)
        pixels.append(target.read_bytes())
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]


def test_animation_and_reconstructions_are_there(pipeline: Path) -> None:
    assert getattr(Image.open(pipeline / "animation.gif"), "n_frames", 1) >= 3
    assert list((pipeline / "reconstruct").glob("*_reconstructions.png"))


def test_report_shows_the_figures(demo: Path, members: list[dict[str, Any]], evaluation: dict[str, Any]) -> None:
    report = (demo / "report.html").read_text()
    for score in best_scores(demo, members):
        assert f"{score:.5g}" in report
    prior = evaluation["prior"]
    for figure in (evaluation["ssim_foreground"]["mean"], prior["bits_per_code"], prior["unigram_bits_per_code"]):
        assert f"{figure:.5g}" in report
    assert "<script src=" not in report
    assert 'src="http' not in report


def test_submitting_again_adds_nothing(demo: Path, members: list[dict[str, Any]]) -> None:
    before = sorted(path.name for path in (demo / "runs").iterdir())
    rows = {row["run_id"]: row["attempts"] for row in members}
    again = subprocess.run(
        [sys.executable, "-m", "jobs", "submit", str(demo.parent / "demo.toml"), "--root", str(demo.parent)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in (demo / "runs").iterdir()) == before
    answer = subprocess.run(
        [sys.executable, "-m", "jobs", "status", str(demo), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {r["run_id"]: r["attempts"] for r in json.loads(answer.stdout) if r["run_id"] in rows} == rows
