import numpy as np
import pytest
import torch
from PIL import Image

from data_tools.console import UsageError
from data_tools.slicefile import SliceReader
from vqvae_dist.inference.load import load_vqvae
from vqvae_dist.inference.reconstruct import reconstruct

GROUP = "32x40_uint8"


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "L"
        return np.asarray(image)


def test_single_pictures_are_lossless_and_true_to_scale(vqvae_run, pack, tmp_path):
    data, run = pack(), vqvae_run()
    reconstruct(run=run, data=data, split="test", output=tmp_path / "out")
    reader = SliceReader(data)
    rows = reader.rows(GROUP, "test")
    singles = sorted(path.name for path in (tmp_path / "out" / GROUP).iterdir())
    assert len(singles) == 3 * len(rows)
    for row in rows:
        raw = reader.read(GROUP, int(row))
        assert (read(tmp_path / "out" / GROUP / f"row{row:06d}_original.png") == raw).all()
        image = torch.from_numpy(reader.scaled(GROUP, int(row)))[None, None]
        made = load_vqvae(run).model(image).reconstruction.clamp(0, 1)[0, 0]
        picture = read(tmp_path / "out" / GROUP / f"row{row:06d}_reconstruction.png")
        assert np.abs(picture - 255 * made.numpy()).max() <= 0.51
        error = read(tmp_path / "out" / GROUP / f"row{row:06d}_errors_x4.png")
        assert np.abs(error - 255 * (4 * (image[0, 0] - made).abs()).clamp(max=1).numpy()).max() <= 0.51


def test_grid_has_originals_above_reconstructions(vqvae_run, pack, tmp_path):
    data = pack()
    reconstruct(run=vqvae_run(), data=data, split="test", output=tmp_path / "out", count=2)
    grid = read(tmp_path / "out" / f"{GROUP}_reconstructions.png")
    assert grid.shape == (2 + 2 * (32 + 2), 2 + 2 * (40 + 2))
    reader = SliceReader(data)
    first, last = (reader.read(GROUP, int(row)) for row in reader.rows(GROUP, "test")[[0, -1]])
    assert (grid[2:34, 2:42] == first).all()
    assert (grid[2:34, 44:84] == last).all()
    assert read(tmp_path / "out" / f"{GROUP}_errors_x4.png").shape == (2 + 32 + 2, 2 + 2 * (40 + 2))


def test_each_shape_has_its_own_pictures(vqvae_run, pack, tmp_path):
    data = pack(shapes=((32, 40, "uint8"), (21, 26, "uint16")))
    reconstruct(run=vqvae_run(), data=data, split="test", output=tmp_path / "out", count=1)
    names = {path.name for path in (tmp_path / "out").glob("*_reconstructions.png")}
    assert names == {"32x40_uint8_reconstructions.png", "21x26_uint16_reconstructions.png"}


def test_pictures_are_kept_unless_asked(vqvae_run, pack, tmp_path):
    data, run = pack(), vqvae_run()
    reconstruct(run=run, data=data, split="test", output=tmp_path / "out")
    with pytest.raises(UsageError, match="exists"):
        reconstruct(run=run, data=data, split="test", output=tmp_path / "out")
    reconstruct(run=run, data=data, split="test", output=tmp_path / "out", overwrite=True)


def test_no_slices_is_not_a_count(vqvae_run, pack, tmp_path):
    with pytest.raises(UsageError, match="--count must be 1 or more, got 0"):
        reconstruct(run=vqvae_run(), data=pack(), split="test", output=tmp_path / "out", count=0)


def test_a_file_in_the_way_of_the_output_folder_is_named(vqvae_run, pack, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="a file is in the way"):
        reconstruct(run=vqvae_run(), data=pack(), split="test", output=tmp_path / "out")
