from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_tools.console import UsageError
from data_tools.slicefile import SliceReader
from tests.vqvae_dist.inference.conftest import Make
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.inference.extract_codes import extract_codes, patches_of
from vqvae_dist.inference.load import load_vqvae
from vqvae_dist.inference.views import drawn_view
from vqvae_dist.metrics.codebook import foreground_cells
from vqvae_dist.metrics.image import foreground_mask


def test_every_slice_is_encoded_at_its_own_size_with_its_index(pack: Make, vqvae_run: Make, tmp_path: Path) -> None:
    data, run = pack(shapes=((30, 37, "uint8"), (32, 40, "uint16"))), vqvae_run()
    extract_codes(run=run, data=data, output=tmp_path / "codes.h5")
    reader, codes, vqvae = SliceReader(data), CodesReader(tmp_path / "codes.h5"), load_vqvae(run)
    assert [(group.grid, group.size) for group in codes.groups] == [((8, 10), (30, 37)), ((8, 10), (32, 40))]
    for group in codes.groups:
        slices, own = reader.index(group.slices), codes.index(group.name)
        assert group.count == reader.group(group.slices).count
        for column in ("subject", "slice_index", "position", "split", "label"):
            assert np.array_equal(getattr(own, column), getattr(slices, column))
        image = reader.scaled(group.slices, 5)
        expected = vqvae.model.encode(torch.from_numpy(image)[None, None])
        assert np.array_equal(codes.codes(group.name, np.array([5])), expected.numpy())
        mask = foreground_cells(foreground_mask(image, noisy_air=False), 4)
        assert np.array_equal(codes.foreground(group.name, np.array([5]))[0], mask)
    assert codes.attributes["vqvae_weights_sha256"] == vqvae.description["weights_sha256"]
    assert codes.attributes["data_digest"] == reader.digest


def test_only_training_slices_get_further_views(pack: Make, vqvae_run: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    extract_codes(run=run, data=data, output=tmp_path / "codes.h5", views=3, seed=4)
    codes, reader = CodesReader(tmp_path / "codes.h5"), SliceReader(data)
    (group,), (slices,) = codes.groups, reader.groups
    index = codes.index(group.name)
    train = len(reader.rows(slices.name, "train"))
    assert group.count == 3 * train + (slices.count - train)
    assert (index.view[index.split > 0] == 0).all()
    rows = codes.rows(group.name, "all", views=False)
    assert np.array_equal(index.slice_row[rows], np.arange(slices.count))
    row = int(np.flatnonzero(index.view == 2)[4])
    view = drawn_view(4, 0, int(index.slice_row[row]), 2, 3)
    image = view.of(reader.scaled(slices.name, int(index.slice_row[row])))
    expected = load_vqvae(run).model.encode(torch.from_numpy(image)[None, None])
    assert np.array_equal(codes.codes(group.name, np.array([row])), expected.numpy())
    assert index.flipped[row] == view.flipped


def test_the_same_command_again_keeps_the_file_and_another_one_asks(
    pack: Make, vqvae_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, output = pack(), vqvae_run(), tmp_path / "codes.h5"
    extract_codes(run=run, data=data, output=output)
    before = output.stat().st_mtime_ns
    extract_codes(run=run, data=data, output=output)
    assert "holds these codes already" in capsys.readouterr().out
    assert output.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"codes\.h5 exists; .*--overwrite"):
        extract_codes(run=run, data=data, output=output, views=2)
    extract_codes(run=run, data=data, output=output, views=2, overwrite=True)
    assert CodesReader(output).attributes["views"] == 2


@pytest.mark.parametrize("part", ["codes", "foreground", "split", "patches"])
def test_the_same_command_again_makes_damaged_codes_again(
    part: str, pack: Make, vqvae_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, output = pack(), vqvae_run(), tmp_path / "codes.h5"
    extract_codes(run=run, data=data, output=output)
    whole = output.read_bytes()
    with h5py.File(output, "r+") as file:
        (group,) = file["codes"].values()
        dataset = file[part] if part == "patches" else group[part]
        start = dataset.id.get_chunk_info(0).byte_offset
    output.write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    extract_codes(run=run, data=data, output=output)
    assert "damaged; they are made again" in capsys.readouterr().err
    assert output.read_bytes() == whole


def test_another_file_is_not_replaced_unasked(pack: Make, vqvae_run: Make, tmp_path: Path) -> None:
    (tmp_path / "codes.h5").write_bytes(b"no codes")
    with pytest.raises(UsageError, match=r"codes\.h5 exists; .*--overwrite"):
        extract_codes(run=vqvae_run(), data=pack(), output=tmp_path / "codes.h5")


def test_the_slices_are_not_replaced_by_their_codes(pack: Make, vqvae_run: Make) -> None:
    data = pack()
    with pytest.raises(UsageError, match="is what this command reads"):
        extract_codes(run=vqvae_run(), data=data, output=data, overwrite=True)
    SliceReader(data).check_digest()


def test_the_same_input_gives_the_same_codes(pack: Make, vqvae_run: Make, tmp_path: Path) -> None:
    data, run = pack(), vqvae_run()
    for name in ("a.h5", "b.h5"):
        extract_codes(run=run, data=data, output=tmp_path / name, views=2)
    assert CodesReader(tmp_path / "a.h5").digest == CodesReader(tmp_path / "b.h5").digest


def test_a_failure_leaves_nothing_behind(pack: Make, vqvae_run: Make, tmp_path: Path) -> None:
    data, run, folder = pack(), vqvae_run(), tmp_path / "out"
    content = bytearray(data.read_bytes())
    pixels = SliceReader(data).read("32x40_uint8", 9).tobytes()
    content[content.index(pixels[400:800]) + 7] ^= 1
    data.write_bytes(content)
    with pytest.raises(Exception, match="row 9"):
        extract_codes(run=run, data=data, output=folder / "codes.h5")
    assert list(folder.iterdir()) == []


def test_patches_lie_in_the_order_of_the_codes() -> None:
    images = torch.arange(2 * 5 * 6, dtype=torch.float32).view(2, 1, 5, 6)  # 2 x 2 cells of 4 pixels, with padding
    patches = patches_of(images, 4).view(2, 2, 2, 4, 4)
    assert torch.equal(patches[1, 0, 0], images[1, 0, :4, :4])
    assert torch.equal(patches[0, 0, 1][:, :2], images[0, 0, :4, 4:])
    assert patches[0, 1, 1].count_nonzero() == 2


def test_a_seed_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--seed must be from 0 to 2\^63 - 1, got -1"):
        extract_codes(run=tmp_path, data=tmp_path, output=tmp_path / "codes.h5", seed=-1)


def test_zero_views_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--views must be 1 or more, got 0"):
        extract_codes(run=tmp_path, data=tmp_path, output=tmp_path / "codes.h5", views=0)
