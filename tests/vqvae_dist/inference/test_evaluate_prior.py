from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_tools.console import UsageError
from tests.vqvae_dist.inference.conftest import Make
from tests.vqvae_dist.inference.evaluation import images_of, run_evaluate
from vqvae_dist.inference import prior_quality
from vqvae_dist.inference.load import load_pixelcnn, load_vqvae
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import code_nll


def test_prior_is_charged_and_its_samples_are_scored(
    vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path
) -> None:
    data, run = pack(), vqvae_run()
    prior = pixelcnn_run(run)
    metrics, rows = run_evaluate(run, data, tmp_path / "out", pixelcnn=prior)
    codes = load_vqvae(run).model.encode(images_of(data, "test"))
    position = torch.tensor([1 / 6, 3 / 6, 5 / 6] * 2)
    condition = Condition(position, torch.full((6,), -1), torch.zeros(6))
    nats = code_nll(load_pixelcnn(prior).model(codes, condition), codes)
    bits = nats.sum().item() / math.log(2)
    assert metrics["rate"]["prior_bpp"] == pytest.approx(bits / (6 * 32 * 40), rel=1e-5)
    figures = metrics["prior"]
    assert figures["bits_per_code"] == pytest.approx(bits / codes.numel(), rel=1e-5)
    inside = sum(float(row["prior_bits_foreground"]) for row in rows) / sum(int(r["cells_foreground"]) for r in rows)
    assert figures["bits_per_code_foreground"] == pytest.approx(inside)
    unigram = sum(float(row["unigram_bits"]) for row in rows) / codes.numel()
    assert figures["unigram_bits_per_code"] == pytest.approx(unigram)
    inside = sum(float(row["context_bits_foreground"]) for row in rows) / sum(int(r["cells_foreground"]) for r in rows)
    assert figures["context_bits_per_code_foreground"] == pytest.approx(inside)
    assert figures["context_bits_per_code"] != pytest.approx(inside)
    assert figures["samples"] == 6
    for scores in (figures, figures["real"], figures["reconstructions"] | {"nearest_train": 1}):
        assert set(scores["anatomy"]) == {"area", "fluid", "grey", "white", "ventricles", "symmetry"}
        assert 0 <= scores["coverage"] <= 1
        assert scores["one_head"] <= 1
        assert scores["swd"] == pytest.approx(np.mean(list(scores["swd_levels"].values())))
        assert 0 <= scores["ms_ssim_diversity"] <= 1
        assert scores["nearest_train"] > 0
    assert figures["real"]["one_head"] == 1
    assert figures["spectrum_db"] > figures["real"]["spectrum_db"], "an untrained decoder draws no such detail"
    assert list(figures["swd_levels"]) == ["40", "20", "10"]
    with Image.open(tmp_path / "out" / "samples.png") as picture:
        assert picture.size == (6 * 42 + 2, 2 * 34 + 2)


def test_the_prior_s_figures_are_said_and_where_its_samples_are(
    vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, output = pack(), vqvae_run(), tmp_path / "out"
    metrics, _ = run_evaluate(run, data, output, pixelcnn=pixelcnn_run(run))
    figures = metrics["prior"]
    told = [
        f"{label} {figures[f'bits_per_code{part}']:.4g} (context model {figures[f'context_bits_per_code{part}']:.4g})"
        for label, part in (("foreground", "_foreground"), ("background", "_background"), ("all", ""))
    ]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == f"prior: bits per code {', '.join(told)}; samples in {output / 'samples.png'}"
    run_evaluate(run, data, tmp_path / "without")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_prior_of_another_vqvae_is_refused(vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path) -> None:
    other = pixelcnn_run(vqvae_run("other", seed=1))
    with pytest.raises(UsageError, match="other"):
        run_evaluate(vqvae_run(), pack(), tmp_path / "out", pixelcnn=other)


def test_real_slices_in_the_samples_place_score_as_the_reference(
    vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training slices passed off as samples: near to the test slices, and found as copies."""
    data, run = pack(), vqvae_run()
    train = images_of(data, "train")[:6, 0]
    monkeypatch.setattr(prior_quality, "draw_samples", lambda *_: train)
    metrics, _ = run_evaluate(run, data, tmp_path / "out", pixelcnn=pixelcnn_run(run))
    assert metrics["prior"]["nearest_train"] == pytest.approx(0, abs=1e-6)
    assert metrics["prior"]["real"]["nearest_train"] > 0.01
    assert metrics["prior"]["swd"] == pytest.approx(metrics["prior"]["real"]["swd"], rel=0.5)


def test_prior_figures_without_training_slices_are_absent(
    vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = vqvae_run()
    metrics, _ = run_evaluate(run, pack(splits=("test",)), tmp_path / "out", pixelcnn=pixelcnn_run(run))
    assert capsys.readouterr().out.splitlines()[1].endswith("(context model -)"), "no samples.png either"
    assert metrics["prior"]["nearest_train"] is None
    assert metrics["prior"]["unigram_bits_per_code"] is None
    real = metrics["prior"]["real"]
    assert all(value is None or value == {} for value in real.values())
    assert real.keys() == (metrics["prior"]["reconstructions"] | {"nearest_train": None}).keys()
