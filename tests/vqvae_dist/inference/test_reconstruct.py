from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_tools.console import UsageError
from data_tools.slicefile import SliceReader
from tests.vqvae_dist.inference.conftest import Make
from vqvae_dist.inference.load import load_vqvae
from vqvae_dist.inference.reconstruct import reconstruct
from vqvae_dist.pictures import Picture, save_picture

GROUP = "32x40_uint8"


def read(path: Path) -> Picture:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "L"
        return np.asarray(image)


def test_single_pictures_are_lossless_and_true_to_scale(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
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


def test_grid_has_originals_above_reconstructions(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data = pack()
    reconstruct(run=vqvae_run(), data=data, split="test", output=tmp_path / "out", count=2)
    grid = read(tmp_path / "out" / f"{GROUP}_reconstructions.png")
    assert grid.shape == (2 + 2 * (32 + 2), 2 + 2 * (40 + 2))
    reader = SliceReader(data)
    first, last = (reader.read(GROUP, int(row)) for row in reader.rows(GROUP, "test")[[0, -1]])
    assert (grid[2:34, 2:42] == first).all()
    assert (grid[2:34, 44:84] == last).all()
    assert read(tmp_path / "out" / f"{GROUP}_errors_x4.png").shape == (2 + 32 + 2, 2 + 2 * (40 + 2))


def test_each_shape_has_its_own_pictures(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data = pack(shapes=((32, 40, "uint8"), (21, 26, "uint16")))
    reconstruct(run=vqvae_run(), data=data, split="test", output=tmp_path / "out", count=1)
    names = {path.name for path in (tmp_path / "out").glob("*_reconstructions.png")}
    assert names == {"32x40_uint8_reconstructions.png", "21x26_uint16_reconstructions.png"}


def test_pictures_are_kept_unless_asked(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    reconstruct(run=run, data=data, split="test", output=tmp_path / "out")
    with pytest.raises(UsageError, match="exists"):
        reconstruct(run=run, data=data, split="test", output=tmp_path / "out")
    reconstruct(run=run, data=data, split="test", output=tmp_path / "out", overwrite=True)


def test_no_slices_is_not_a_count(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--count must be 1 or more, got 0"):
        reconstruct(run=vqvae_run(), data=pack(), split="test", output=tmp_path / "out", count=0)


def test_a_file_in_the_way_of_the_output_folder_is_named(vqvae_run: Make, pack: Make, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="a file is in the way"):
        reconstruct(run=vqvae_run(), data=pack(), split="test", output=tmp_path / "out")


@pytest.fixture
def full_disk_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``full_disk_at(n)``: the n-th picture that is saved finds the disk full."""
    from vqvae_dist.inference import reconstruct as module

    saved: list[Path] = []
    full_at = 0

    def saving(path: Path, picture: Picture) -> None:
        saved.append(path)
        if len(saved) == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save_picture(path, picture)

    def full_disk_at(step: int) -> None:
        nonlocal full_at
        saved.clear()
        full_at = step
        monkeypatch.setattr(module, "save_picture", saving)

    return full_disk_at


def test_a_full_disk_leaves_nothing_and_the_same_command_does_its_work(
    vqvae_run: Make, pack: Make, tmp_path: Path, full_disk_at: Callable[[int], None]
) -> None:
    data, run, output = pack(), vqvae_run(), tmp_path / "out"
    for step in (1, 4, 7, 8):  # a single picture, and either grid of two slices
        full_disk_at(step)
        with pytest.raises(OSError, match="No space left") as raised:
            reconstruct(run=run, data=data, split="test", output=output, count=2)
        assert raised.value.filename == str(output)
        assert list(output.iterdir()) == []
    full_disk_at(0)
    reconstruct(run=run, data=data, split="test", output=output, count=2)
    assert len(list(output.rglob("*.png"))) == 8


def test_pictures_of_two_models_never_lie_together(
    vqvae_run: Make, pack: Make, tmp_path: Path, full_disk_at: Callable[[int], None]
) -> None:
    data, output = pack(), tmp_path / "out"
    reconstruct(run=vqvae_run(), data=data, split="test", output=output)
    before = {path: path.read_bytes() for path in output.rglob("*.png")}
    other = vqvae_run("other", seed=1)
    full_disk_at(5)
    with pytest.raises(OSError, match="No space left"):
        reconstruct(run=other, data=data, split="test", output=output, overwrite=True)
    assert {path: path.read_bytes() for path in output.rglob("*.png")} == before
    full_disk_at(0)
    reconstruct(run=other, data=data, split="test", output=output, overwrite=True, count=2)
    assert len(list((output / GROUP).iterdir())) == 6, "none of the earlier ones is left"
    assert not list(output.glob(".staging-*"))


def test_where_the_pictures_are_is_said(
    vqvae_run: Make, pack: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = pack(shapes=((32, 40, "uint8"), (21, 26, "uint16"))), tmp_path / "out"
    reconstruct(run=vqvae_run(), data=data, split="test", output=output, count=2)
    told = "2 slices, originals above; single pictures in"
    groups = ("21x26_uint16", GROUP)
    lines = [f"{output / group}_reconstructions.png: {told} {output / group}" for group in groups]
    assert capsys.readouterr().out.splitlines() == lines
