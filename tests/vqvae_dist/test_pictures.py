from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqvae_dist.pictures import comparison_picture, grid_picture, save_picture, to_uint8


def test_levels_are_rounded_and_clipped_never_stretched() -> None:
    images = torch.tensor([[-1.0, 0.0, 0.5, 1.0, 2.0, 100.4 / 255, 100.6 / 255]])
    assert to_uint8(images).tolist() == [[0, 0, 128, 255, 255, 100, 101]]


def test_pictures_are_true_to_scale_and_lossless(tmp_path: Path) -> None:
    images = torch.rand(3, 1, 5, 7)
    picture = grid_picture(images, columns=2)
    assert picture.shape == (2 * (5 + 2) + 2, 2 * (7 + 2) + 2)
    assert np.array_equal(picture[2:7, 2:9], to_uint8(images[0, 0]).numpy())
    assert np.array_equal(picture[9:14, 2:9], to_uint8(images[2, 0]).numpy())
    save_picture(tmp_path / "new" / "a.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), picture)


def test_originals_stand_above_reconstructions() -> None:
    picture = comparison_picture(torch.full((2, 1, 4, 4), 0.2), torch.full((2, 1, 4, 4), 0.8))
    assert (picture[2:6, 2:6] == 51).all()
    assert (picture[8:12, 8:12] == 204).all()


FORMATS = {"a.jpg": "JPEG", "a.jpeg": "JPEG", "a.PNG": "PNG", "a.tiff": "TIFF"}


@pytest.mark.parametrize(("name", "kind"), FORMATS.items())
def test_format_follows_the_suffix(tmp_path: Path, name: str, kind: str) -> None:
    save_picture(tmp_path / name, np.zeros((4, 4), np.uint8))
    assert Image.open(tmp_path / name).format == kind
