from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from data_tools.console import CommandError, UsageError
from data_tools.slice_format import SPLITS, content_digest
from data_tools.slicefile import SliceReader
from tests.vqvae_dist.inference.conftest import Make
from tests.vqvae_dist.inference.evaluation import images_of, run_evaluate
from vqvae_dist.data.codes_writer import write_attributes
from vqvae_dist.inference import reference, slices
from vqvae_dist.inference.load import load_vqvae
from vqvae_dist.metrics.rate import ContextModel, unigram_bits
from vqvae_dist.models.vqvae import VQVAE, Decoder, VQVAEOutput


def test_figures_are_those_of_scikit_image_on_the_reconstructions(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    metrics, rows = run_evaluate(run, data, tmp_path / "out")
    images = images_of(data, "test")
    made = load_vqvae(run).model(images).reconstruction.clamp(0, 1)
    pairs = [(a[0].double().numpy(), b[0].double().numpy()) for a, b in zip(images, made, strict=True)]
    maps = [structural_similarity(a, b, data_range=1.0, full=True) for a, b in pairs]
    inside = [full[a > 0.02].mean() for (a, _), (_, full) in zip(pairs, maps, strict=True)]
    assert metrics["ssim"]["mean"] == pytest.approx(np.mean([mean for mean, _ in maps]), abs=1e-6)
    assert metrics["ssim"]["min"] == pytest.approx(min(mean for mean, _ in maps), abs=1e-6)
    assert metrics["ssim_foreground"]["mean"] == pytest.approx(np.mean(inside), abs=1e-6)
    mse = [((a - b) ** 2).mean() for a, b in pairs]
    assert metrics["mse"]["mean"] == pytest.approx(np.mean(mse), rel=1e-4)
    assert metrics["psnr"]["mean"] == pytest.approx(np.mean([-10 * math.log10(error) for error in mse]), abs=1e-3)
    assert [float(row["ssim"]) for row in rows] == pytest.approx([mean for mean, _ in maps], abs=1e-6)


def test_metrics_have_the_agreed_keys(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    metrics, _ = run_evaluate(vqvae_run(), pack(), tmp_path / "out")
    counted = {key: metrics[key] for key in ("split", "slices", "subjects", "data_range", "foreground_threshold")}
    assert counted == {"split": "test", "slices": 6, "subjects": 2, "data_range": 1.0, "foreground_threshold": 0.02}
    assert metrics["ci_unit"] == "subject"
    assert metrics["prior"] is None
    for figures in (metrics, *metrics["baselines"].values()):
        for name in ("ssim", "ssim_foreground", "psnr", "mse", "mse_foreground"):
            low, high = figures[name]["ci95"]
            assert figures[name]["slices"] == 6
            assert figures[name]["min"] <= low <= figures[name]["mean"] <= high
    assert {"nominal_bpp", "unigram_bpp", "context_bpp", "prior_bpp"} == set(metrics["rate"])
    assert {"usage", "perplexity", "perplexity_foreground", "foreground_share"} <= set(metrics["codebook"])
    assert set(metrics["baselines"]) == {"black", "mean_image"}


def test_rates_are_charged_under_training_statistics(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    metrics, rows = run_evaluate(run, data, tmp_path / "out")
    encode = load_vqvae(run).model.encode
    train, test = (encode(images_of(data, split)).numpy() for split in ("train", "test"))
    context = ContextModel.fit([train], 16)
    pixels = 6 * 32 * 40
    assert metrics["rate"]["nominal_bpp"] == 4 / 16
    assert metrics["rate"]["unigram_bpp"] == pytest.approx(unigram_bits(context.counts)[test].sum() / pixels)
    assert metrics["rate"]["context_bpp"] == pytest.approx(context.bits(test).sum() / pixels)
    assert metrics["rate"]["prior_bpp"] is None
    assert sum(float(row["context_bits"]) for row in rows) == pytest.approx(context.bits(test).sum())


def test_rates_do_not_change_with_what_else_is_evaluated(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    few, more = pack("few.h5"), pack("more.h5", splits=("train",) * 4 + ("validate",) + ("test",) * 5)
    _, rows_few = run_evaluate(vqvae_run(), few, tmp_path / "few")
    _, rows_more = run_evaluate(tmp_path / "vqvae", more, tmp_path / "more")
    assert [row["unigram_bits"] for row in rows_more[:6]] == [row["unigram_bits"] for row in rows_few]


def test_cells_over_padding_are_paid_for(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    metrics, rows = run_evaluate(vqvae_run(), pack(shapes=((30, 37, "uint8"),)), tmp_path / "out")
    assert rows[0]["cells"] == str(8 * 10)
    assert metrics["rate"]["nominal_bpp"] == pytest.approx(8 * 10 * 4 / (30 * 37))


def test_codebook_use_counts_all_slices_once(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    metrics, rows = run_evaluate(run, data, tmp_path / "out")
    codes = load_vqvae(run).model.encode(images_of(data, "test")).numpy()
    assert metrics["codebook"]["usage"] == len(np.unique(codes)) / 16
    foreground = sum(int(row["cells_foreground"]) for row in rows) / codes.size
    assert metrics["codebook"]["foreground_share"] == pytest.approx(foreground)


def test_a_black_picture_scores_well_on_the_frame_and_is_dead(
    vqvae_run: Make, pack: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def black(self: VQVAE, images: Tensor, *_: Any) -> VQVAEOutput:
        output = original_forward(self, images)
        return output._replace(reconstruction=torch.zeros_like(images))

    original_forward = VQVAE.forward
    monkeypatch.setattr(VQVAE, "forward", black)
    metrics, _ = run_evaluate(vqvae_run(), pack(shapes=((96, 96, "uint8"),)), tmp_path / "out")
    assert metrics["dead_slices"] == metrics["slices"] == 6
    for name in ("ssim", "ssim_foreground", "mse"):
        assert metrics[name] == metrics["baselines"]["black"][name]
    assert metrics["ssim"]["mean"] > metrics["ssim_foreground"]["mean"] + 0.3


def test_a_perfect_reconstruction_has_no_psnr(
    vqvae_run: Make, pack: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original_forward = VQVAE.forward
    monkeypatch.setattr(
        VQVAE, "forward", lambda self, images: original_forward(self, images)._replace(reconstruction=images)
    )
    metrics, rows = run_evaluate(vqvae_run(), pack(), tmp_path / "out")
    assert metrics["psnr"] == {"slices": 0, "mean": None, "min": None, "max": None, "ci95": None}
    assert metrics["ssim"]["ci95"] == [1.0, 1.0]
    assert {row["psnr"] for row in rows} == {""}


def test_mean_image_baseline_is_the_training_mean_at_that_position(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data = pack()
    metrics, _ = run_evaluate(vqvae_run(), data, tmp_path / "out")
    means = images_of(data, "train").reshape(4, 3, 32, 40).mean(0)  # subjects, positions
    tests = images_of(data, "test").reshape(2, 3, 32, 40)
    expected = (tests - means).square().mean().item()
    assert metrics["baselines"]["mean_image"]["mse"]["mean"] == pytest.approx(expected, rel=1e-4)


def test_slices_of_other_data_are_not_charged_under_their_own_statistics(
    vqvae_run: Make, pack: Make, tmp_path: Path
) -> None:
    data = pack()
    metrics, _ = run_evaluate(vqvae_run(), data, tmp_path / "other", split="all")
    assert metrics["data"]["trained_on_this_file"] is False
    assert metrics["rate"]["unigram_bpp"] is None
    assert metrics["rate"]["context_bpp"] is None
    assert metrics["baselines"]["mean_image"]["ssim"]["mean"] is None
    own = vqvae_run("own", data_digest=SliceReader(data).digest)
    metrics, _ = run_evaluate(own, data, tmp_path / "own", split="all")
    assert metrics["slices"] == 21
    assert metrics["rate"]["unigram_bpp"] > 0


def test_a_baseline_says_how_many_slices_it_is_of(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data = pack(splits=("train", "train", "test", "test"), shapes=((32, 40, "uint8"), (30, 37, "uint8")))
    with h5py.File(data, "r+") as file:  # no training slice of the second shape
        split = file["images/30x37_uint8/split"]
        split[:6] = SPLITS.index("validate")
        write_attributes(file, {"digest": content_digest(file)})
    metrics, _ = run_evaluate(vqvae_run(), data, tmp_path / "out")
    counts = {name: figures["ssim"]["slices"] for name, figures in metrics["baselines"].items()}
    assert counts == {"black": 12, "mean_image": 6}
    assert metrics["ssim"]["slices"] == 12


def test_several_shapes_and_depths_are_evaluated_together(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data = pack(shapes=((32, 40, "uint8"), (21, 26, "uint16")))
    metrics, rows = run_evaluate(vqvae_run(), data, tmp_path / "out")
    assert metrics["slices"] == 12
    assert {row["group"] for row in rows} == {"32x40_uint8", "21x26_uint16"}


def test_a_single_subject_has_no_interval_over_subjects(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    metrics, _ = run_evaluate(vqvae_run(), pack(splits=("train", "test")), tmp_path / "out")
    assert metrics["subjects"] == 1
    assert metrics["ci_unit"] == "subject"
    assert metrics["ssim"]["ci95"] is None
    assert metrics["ssim"]["slices"] == 3


def test_files_of_unknown_subject_are_bootstrapped_over_slices(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    guessed = {"rules": ("file name",), "splits": ("train", "test", "test", "test")}
    metrics, _ = run_evaluate(vqvae_run(), pack("one.h5", slices=1, **guessed), tmp_path / "one")
    assert metrics["ci_unit"] == "slice"
    metrics, _ = run_evaluate(tmp_path / "vqvae", pack("volumes.h5", **guessed), tmp_path / "volumes")
    assert metrics["ci_unit"] == "subject", "slices of one file stay together"


def test_noisy_air_takes_the_other_foreground_rule(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    metrics, _ = run_evaluate(vqvae_run(), pack(noisy_air=True), tmp_path / "out")
    assert metrics["foreground_otsu_slices"] == 6


def test_an_empty_split_is_refused_with_the_counts(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no slices in split test; it has train 3, validate 3, test 0"):
        run_evaluate(vqvae_run(), pack(splits=("train", "validate")), tmp_path / "out")


def test_an_earlier_evaluation_is_kept_unless_asked(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    before, _ = run_evaluate(run, data, tmp_path / "out")
    with pytest.raises(UsageError, match=r"metrics\.json exists; give another --output, or --overwrite"):
        run_evaluate(run, data, tmp_path / "out")
    after, _ = run_evaluate(run, data, tmp_path / "out", overwrite=True)
    assert after == before


def test_slices_smaller_than_the_window_are_named(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"6x40_uint8: SSIM needs slices of at least 7x7"):
        run_evaluate(vqvae_run(), pack(shapes=((6, 40, "uint8"),)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_a_prior_is_refused_and_no_folder_is_left(
    vqvae_run: Make, pixelcnn_run: Make, pack: Make, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="a run of train-pixelcnn; give a run of train-vqvae"):
        run_evaluate(pixelcnn_run(vqvae_run()), pack(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_reconstruction_that_is_not_finite_is_named(
    vqvae_run: Make, pack: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "forward", lambda self, z: torch.full((len(z), 1, 32, 40), torch.nan))
    with pytest.raises(CommandError, match="32x40_uint8 row 15: the reconstruction is not finite"):
        run_evaluate(vqvae_run(), pack(), tmp_path / "out")


def test_figures_do_not_depend_on_the_batch(
    vqvae_run: Make, pack: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = pack(), vqvae_run()
    _, together = run_evaluate(run, data, tmp_path / "together")
    monkeypatch.setattr(slices, "PIXELS_AT_ONCE", 1)
    _, alone = run_evaluate(run, data, tmp_path / "alone")
    for a, b in zip(together, alone, strict=True):
        assert float(a["ssim"]) == pytest.approx(float(b["ssim"]), abs=1e-6)
        assert a["unigram_bits"] == b["unigram_bits"]


def test_a_large_training_split_is_thinned_evenly(
    vqvae_run: Make, pack: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MAX_SLICES", 5)
    metrics, _ = run_evaluate(vqvae_run(), pack(), tmp_path / "out")
    assert metrics["data"]["reference_slices"] == 5
    thin = slices.thinned({"a": np.arange(100), "b": np.arange(3)}, 10)
    assert thin["a"].tolist() == [0, 12, 24, 37, 49, 61, 74, 86, 99]
    assert thin["b"].tolist() == [0]
