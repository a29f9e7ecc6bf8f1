from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from data_tools.console import UsageError
from data_tools.slicefile import SliceReader
from tests.vqvae_dist.inference.conftest import Make
from vqvae_dist.inference.likelihood import likelihood_map, surprise_image
from vqvae_dist.inference.load import load_pixelcnn, load_vqvae
from vqvae_dist.inference.prior import code_bits, slice_condition
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.pixelcnn import PixelCNN


def test_every_slice_gets_its_map_its_row_and_its_picture(
    pack: Make, vqvae_run: Make, pixelcnn_run: Make, tmp_path: Path
) -> None:
    data = pack(shapes=((30, 37, "uint8"), (32, 40, "uint8")))
    vqvae = vqvae_run()
    prior, output = pixelcnn_run(vqvae), tmp_path / "maps"
    likelihood_map(vqvae=vqvae, pixelcnn=prior, data=data, split="test", output=output)
    reader = SliceReader(data)
    rows = list(csv.DictReader((output / "per_slice.csv").open()))
    with h5py.File(output / "likelihood.h5") as maps:
        for group in reader.groups:
            wanted = reader.rows(group.name, "test")
            bits = maps[group.name]["bits"][:]
            assert np.array_equal(maps[group.name]["rows"][:], wanted)
            assert bits.shape == (len(wanted), 8, 10)
            own = [row for row in rows if row["group"] == group.name]
            assert [float(row["bits_per_code"]) for row in own] == pytest.approx(bits.mean(axis=(1, 2)).tolist())
    assert len(rows) == 12
    picture = np.asarray(Image.open(output / "pictures" / "30x37_uint8_00015.png"))
    original = np.round(255 * reader.scaled("30x37_uint8", 15))
    assert np.array_equal(picture[2:32, 2:39], original)


def test_bits_are_those_of_the_prior_given_the_slice(pack: Make, vqvae_run: Make, pixelcnn_run: Make) -> None:
    reader, vqvae = SliceReader(pack()), vqvae_run()
    loaded, prior = load_vqvae(vqvae), load_pixelcnn(pixelcnn_run(vqvae))
    rows = np.array([3, 8])
    images = torch.from_numpy(np.stack([reader.scaled("32x40_uint8", row) for row in rows]))[:, None]
    codes = loaded.model.encode(images)
    condition = slice_condition(reader, "32x40_uint8", rows, classes=[])
    logits = prior.model(codes, condition).log_softmax(dim=1)
    expected = -logits.gather(1, codes[:, None])[:, 0] / math.log(2)
    np.testing.assert_allclose(code_bits(prior, codes, condition), expected.numpy(), rtol=1e-5)
    assert condition.position.tolist() == pytest.approx([0.5 / 3, 2.5 / 3])


def test_an_impossible_code_is_finite_and_white(vqvae_run: Make, pixelcnn_run: Make) -> None:
    vqvae = vqvae_run()
    prior, loaded = load_pixelcnn(pixelcnn_run(vqvae)), load_vqvae(vqvae)
    assert isinstance(prior.model, PixelCNN)
    with torch.no_grad():
        last: Any = prior.model.head[-1]
        last.weight.zero_()
        last.bias.copy_(torch.where(torch.arange(16) == 3, -120.0, 0.0))
    codes = torch.zeros(1, 2, 2, dtype=torch.int64)
    codes[0, 1, 0] = 3
    bits = code_bits(prior, codes, Condition(torch.zeros(1), torch.full((1,), -1), torch.zeros(1)))
    expected = np.full((1, 2, 2), math.log2(15))
    expected[0, 1, 0] = 120 / math.log(2) + math.log2(15)
    np.testing.assert_allclose(bits, expected, rtol=1e-5)
    shown = surprise_image(bits[0], loaded, (7, 8))
    assert shown.shape == (1, 1, 7, 8)
    assert (shown[0, 0, 4:, :4] > 1).all()
    assert shown[0, 0, 0, 0] == pytest.approx(math.log2(15) / 8)  # mid-gray is log2 16 = 4 bits


def test_classes_are_matched_by_name_and_unknown_ones_count_as_none(pack: Make) -> None:
    splits = ("train", "train", "train", "test")
    reader = SliceReader(pack(splits=splits, slices=1, classes=("ill", "old", "well"), labels=(0, 1, 2, -1)))
    condition = slice_condition(reader, "32x40_uint8", np.arange(4), classes=["well", "ill"])
    assert condition.label.tolist() == [1, -1, 0, -1]


def test_an_empty_split_is_named(pack: Make, vqvae_run: Make, pixelcnn_run: Make, tmp_path: Path) -> None:
    vqvae = vqvae_run()
    data = pack(splits=("train", "train"))
    with pytest.raises(UsageError, match="no slices in split test"):
        likelihood_map(
            vqvae=vqvae, pixelcnn=pixelcnn_run(vqvae), data=data, split="test", output=tmp_path / "maps"
        )  # fmt: skip
    assert not (tmp_path / "maps").exists()
