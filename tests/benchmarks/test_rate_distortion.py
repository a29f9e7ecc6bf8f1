from __future__ import annotations

import argparse
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import rate_distortion
from benchmarks.bd_rate import bd_rate, front, quality_at
from benchmarks.codecs import CODECS, boxes, coded, mean_of
from tests.benchmarks.conftest import TINY
from vqvae_dist.metrics.image import SliceScores

CURVE = [(0.1, 0.8), (0.2, 0.9), (0.4, 0.95), (0.8, 0.97)]


def test_bd_rate_is_the_factor_between_curves() -> None:
    half = [(rate / 2, quality) for rate, quality in CURVE]
    assert bd_rate(CURVE, CURVE) == pytest.approx(0)
    assert bd_rate(half, CURVE) == pytest.approx(-0.5)
    assert bd_rate(CURVE, half) == pytest.approx(1)
    assert bd_rate(half[::-1], [*CURVE, (0.3, 0.7)]) == pytest.approx(-0.5), "neither order nor beaten points count"


def test_curves_that_share_no_quality_have_no_bd_rate() -> None:
    assert bd_rate(CURVE, [(0.1, 0.2), (0.2, 0.3)]) is None
    assert bd_rate(CURVE, CURVE[:1]) is None


def test_bd_rate_stands_on_points_that_were_measured() -> None:
    between = [(0.25, 0.91), (0.3, 0.92)]  # qualities between two neighbours of CURVE
    assert bd_rate(CURVE, between) is None
    assert bd_rate(between, CURVE) is None
    assert bd_rate([*CURVE, (0.26, 0.912), (0.28, 0.918)], between) is not None


def test_curves_are_compared_at_equal_downsampling() -> None:
    def points(rates: list[tuple[float, float]], factor: int) -> list[dict[str, float]]:
        return [
            {"K": 2, "downsample": factor, "bpp": bpp, "ssim_foreground": quality, "psnr": quality}
            for bpp, quality in rates
        ]

    better = [(rate / 2, quality) for rate, quality in CURVE]
    rows = {
        "ours": {"points": [*points(better, 4), *points(CURVE, 8)]},
        "lucidrains_decay.8": {"points": points(CURVE, 4)},
    }
    lines = rate_distortion.comparison(rows).splitlines()[2:]
    assert [line.split(" | ")[:3] for line in lines] == [["| 4", "lucidrains_decay.8", "-50 %"]]


def test_a_point_measured_again_takes_the_place_of_the_earlier_one() -> None:
    points = [{"K": 64, "downsample": 4}, {"K": 64, "downsample": 8}, {"quality": 20}]
    again = {"K": 64, "downsample": 8, "bpp": 0.1}
    assert rate_distortion.replaced(points, again) == [points[0], again, points[2]]
    assert rate_distortion.replaced(points, {"quality": 30}) == [*points, {"quality": 30}]


@pytest.mark.parametrize(("name", "layers"), [("ours", 6), ("lucidrains_decay.8", 6), ("monai_decay.5", None)])
def test_our_networks_at_downsample_8_are_those_chosen_there_unless_set(name: str, layers: int | None) -> None:
    options = argparse.Namespace(data=Path("brain.h5"), steps=10, set=[])
    settings = rate_distortion.point_settings(options, name, 64, 8)
    assert settings.get("model.residual_layers") == layers
    assert "model.residual_layers" not in rate_distortion.point_settings(options, name, 64, 4)
    options.set = [("model.residual_layers", 2)]
    assert rate_distortion.point_settings(options, name, 64, 8)["model.residual_layers"] == 2


def test_quality_at_a_rate_lies_on_the_curve() -> None:
    assert quality_at(CURVE, 0.2) == pytest.approx(0.9)
    assert 0.9 < (quality_at(CURVE, 0.3) or 0) < 0.95
    assert quality_at(CURVE, 0.9) is None
    assert quality_at([*CURVE, (1.6, 0.9)], 1.6) == pytest.approx(0.9), "a curve may fall"
    assert front([(1, 2), (1, 3), (2, 1)]) == [(1, 3)]


@pytest.mark.parametrize("name", CODECS)
def test_codecs_cost_less_than_their_files_and_more_at_higher_quality(name: str) -> None:
    codec = CODECS[name]
    y, x = np.mgrid[0:64, 0:64] / 64
    image = 0.5 + 0.3 * np.sin(9 * x) * np.cos(7 * y) + 0.05 * np.random.default_rng(0).random((64, 64))
    sizes, errors = [], []
    for quality in codec.qualities:
        size, decoded = coded(codec, image, quality)
        file = io.BytesIO()
        Image.fromarray(np.round(255 * image).astype(np.uint8)).save(file, codec.format, **codec.options(quality))
        assert 0 < size <= len(file.getvalue())
        assert size > len(file.getvalue()) / 3 or name == "avif", "its container is larger than so small a picture"
        sizes.append(size)
        errors.append(float(np.square(decoded - image).mean()))
    assert sizes[-1] > sizes[0]
    assert errors[-1] < errors[0] < 0.02


def test_boxes_are_walked_to_the_end() -> None:
    file = b"\0\0\0\x0bftypabc" + b"\0\0\0\x01mdat" + (19).to_bytes(8, "big") + b"xyz" + b"\0\0\0\0freeqq"
    assert list(boxes(file)) == [(b"ftyp", b"abc"), (b"mdat", b"xyz"), (b"free", b"qq")]


@pytest.mark.slow
def test_series_are_measured_alike_and_kept(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "rd.json"
    words = ["--data", heads, "--runs", tmp_path / "runs", "--output", output, "--steps", 60]
    words += ["--sizes", 8, 32, "--downsample", 4, "--peer-sizes", 16, "--no-bf16", "--no-compile"]
    tiny = [*TINY, "schedule.validate_every=60"]
    prior = ["--prior-steps", "10", "--prior-set", "model.layers=2", "model.hidden=8"]
    rate_distortion.main([*map(str, words), *prior, "--series", "ours", "lucidrains_decay.8", *tiny])
    trained = json.loads((tmp_path / "runs/ours_f4_K8/prior/config.json").read_text())["settings"]
    assert (trained["model"]["layers"], trained["schedule"]["steps"]) == (2, 10)
    first = json.loads(output.read_text())["rows"]
    assert [(p["K"], p["downsample"]) for p in first["ours"]["points"]] == [(8, 4), (32, 4)]
    for p in [*first["ours"]["points"], *first["lucidrains_decay.8"]["points"]]:
        assert 0 < p["bpp"] < 0.4
        assert 0 < p["prior_bpp"] < 0.4
        assert 0 < p["ssim_foreground"] < 1
    rate_distortion.main([*map(str, words), "--series", "webp", *tiny])  # what is not asked for is kept
    rows = json.loads(output.read_text())["rows"]
    assert rows["ours"] == first["ours"]
    rate_distortion.main([*map(str, words), "--series", "lucidrains_decay.8", *tiny, "--peer-sizes", "32"])
    rows = json.loads(output.read_text())["rows"]
    assert [p["K"] for p in rows["lucidrains_decay.8"]["points"]] == [16, 32]
    assert rows["lucidrains_decay.8"]["points"][0] == first["lucidrains_decay.8"]["points"][0]
    assert len(rows["webp"]["points"]) == len(CODECS["webp"].qualities)
    assert (tmp_path / "pictures" / "rate_distortion.png").is_file()
    assert "| lucidrains_decay.8 |" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="monai is not installed")
def test_monai_s_vqvae_is_measured_as_ours(heads: Path, tmp_path: Path) -> None:
    output = tmp_path / "rd.json"
    words = ["--data", heads, "--runs", tmp_path / "runs", "--output", output, "--steps", 20, "--peer-sizes", 16]
    words += ["--series", "monai_decay.5", "--no-bf16", "--no-compile"]
    rate_distortion.main([*map(str, words), *TINY])
    (found,) = json.loads(output.read_text())["rows"]["monai_decay.5"]["points"]
    assert 0 < found["usage"] <= 1
    assert found["psnr"] > 5


def test_mean_of_a_figure_leaves_out_slices_without_it() -> None:
    empty = SliceScores(
        ssim=0.5, ssim_foreground=None, psnr=None, mse=0.0, mse_foreground=None, black_error=None, dead=False
    )
    rows = [empty, empty._replace(ssim=0.7, ssim_foreground=0.4, mse=0.001)]
    assert mean_of(rows, "ssim") == pytest.approx(0.6)
    assert mean_of(rows, "ssim_foreground") == 0.4
    assert mean_of(rows[:1], "psnr") is None
    assert mean_of(rows, "mse") == 0.0005
