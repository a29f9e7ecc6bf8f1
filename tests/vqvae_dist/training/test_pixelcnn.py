"""What only the prior's training does; tests/distributed and tests/kills train it as a whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from data_tools.console import UsageError
from tests.phantoms import write_codes
from tests.trainings import settings_of, train
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.json_files import read_json
from vqvae_dist.metrics.rate import unigram_bits
from vqvae_dist.run_folder import RunFolder


def train_prior(data: Path, output: Path, **changes: Any) -> RunFolder:
    settings = settings_of("train-pixelcnn", data, output, {"schedule.image_every": 50, **changes})
    assert train("train-pixelcnn", settings) == "completed"
    return RunFolder(output)


@pytest.fixture(scope="module")
def trained(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train_prior(codes, tmp_path_factory.mktemp("prior") / "run", **{"optim.lr": 5e-3, "model.hidden": 16})


def test_a_prior_learns_more_than_how_often_each_code_occurs(trained: RunFolder, codes: Path) -> None:
    reader = CodesReader(codes)
    (group,) = reader.groups
    train, held_out = (reader.codes(group.name, reader.rows(group.name, s, views=True)) for s in ("train", "validate"))
    unigram = unigram_bits(np.bincount(train.ravel(), minlength=reader.codebook_size))[held_out].mean()
    last = trained.read_metrics()[-1]
    assert last["validate/bits_per_code"] < 0.8 * unigram


def test_held_out_bits_are_split_into_foreground_and_background(trained: RunFolder, codes: Path) -> None:
    reader = CodesReader(codes)
    (group,) = reader.groups
    share = reader.foreground(group.name, reader.rows(group.name, "validate", views=False)).mean()
    last = trained.read_metrics()[-1]
    parts = share * last["validate/bits_per_code_foreground"] + (1 - share) * last["validate/bits_per_code_background"]
    assert last["validate/bits_per_code"] == pytest.approx(parts)


def test_the_best_prior_is_the_one_with_the_fewest_held_out_bits(trained: RunFolder) -> None:
    scores = {row["global_step"]: row.get("validate/bits_per_code") for row in trained.read_metrics()}
    known = {step: score for step, score in scores.items() if score is not None}
    best = (trained.read_summary() or {})["best"]
    assert (best["metric"], best["step"]) == ("validate/bits_per_code", min(known, key=lambda step: known[step]))
    assert read_json(trained.model / "config.json")["step"] == best["step"]


def test_bits_are_the_loss_in_bits(trained: RunFolder) -> None:
    for row in trained.read_metrics():
        assert row["train/bits_per_code"] == pytest.approx(row["train/loss"] / math.log(2))


def test_the_export_says_what_drawing_needs(trained: RunFolder) -> None:
    about = read_json(trained.model / "config.json")
    assert (about["codebook_size"], about["classes"], about["label_counts"], about["size"]) == (16, [], [18], [32, 32])
    assert about["vqvae"] == {"run_id": "none", "weights_sha256": "0" * 64}
    quantiles = about["position_quantiles"]
    assert quantiles == sorted(quantiles)
    assert (quantiles[0], quantiles[-1]) == (0, pytest.approx(17 / 23))  # of the training slices


def test_a_completed_prior_shows_samples_and_its_way(trained: RunFolder) -> None:
    samples = np.asarray(Image.open(trained.path / "samples.png"))
    assert samples.shape == (34 + 2, 8 * 34 + 2)
    assert len(np.unique(samples)) > 16
    with Image.open(trained.path / "animation.gif") as animation:
        assert isinstance(animation, GifImageFile)
        assert animation.n_frames == len(list(trained.images.glob("step_*.png")))


def test_the_picture_shows_codes_expectation_and_surprise(trained: RunFolder, codes: Path) -> None:
    picture = np.asarray(Image.open(trained.image_file(50)))
    assert picture.shape == (3 * 34 + 2, 6 * 34 + 2)  # three rows of the 6 held-out maps
    reader = CodesReader(codes)
    (group,) = reader.groups
    code = reader.codes(group.name, reader.rows(group.name, "validate", views=False))[0, 0, 0]
    assert np.array_equal(picture[2:6, 2:6], np.round(255 * reader.patches[code]))


def test_averaged_weights_are_those_that_are_scored(codes: Path, tmp_path: Path) -> None:
    plain = train_prior(codes, tmp_path / "plain", **{"model.ema": 0.0}).read_metrics()[-1]
    averaged = train_prior(codes, tmp_path / "averaged", **{"model.ema": 0.9}).read_metrics()[-1]
    assert averaged["train/loss"] == plain["train/loss"]
    assert averaged["validate/bits_per_code"] != plain["validate/bits_per_code"]


def test_dropout_acts_in_training_alone(codes: Path, tmp_path: Path) -> None:
    changes = {"optim.lr": 1e-12, "model.ema": 0.0, "schedule.steps": 2, "schedule.validate_every": 1}
    rows = [
        train_prior(codes, tmp_path / f"{share}", **{**changes, "model.dropout": share}).read_metrics()
        for share in (0.0, 0.5)
    ]
    assert rows[0][0]["train/loss"] != rows[1][0]["train/loss"]
    assert rows[0][0]["validate/bits_per_code"] == pytest.approx(rows[1][0]["validate/bits_per_code"], rel=1e-6)


def test_without_a_class_in_the_codes_it_cannot_be_conditioned_on(codes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="carries no classes; leave it off"):
        train_prior(codes, tmp_path / "run", **{"model.condition_class": True})


def test_codes_without_training_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no codes in split 'test'"):
        train_prior(write_codes(tmp_path / "codes.h5"), tmp_path / "run", **{"data.train_split": "test"})
