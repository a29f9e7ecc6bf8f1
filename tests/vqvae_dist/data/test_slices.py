from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.console import UsageError
from data_tools.slicefile import SliceReader
from tests.phantoms import write_packed
from vqvae_dist.config import DataConfig
from vqvae_dist.data.slices import SliceBatch, TrainingSlices, head_box, split_batches

BATCH = 8


def slices_of(path: Path, *, rank: int = 0, processes: int = 1, seed: int = 0, **options: Any) -> TrainingSlices:
    config = DataConfig(path=str(path), **options)
    share = BATCH // processes
    return TrainingSlices(str(path), config, seed=seed, batch_size=BATCH, rank=rank, share=share)


def same(a: SliceBatch, b: SliceBatch) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.keys, b.keys) and a.names == b.names


@pytest.mark.parametrize("processes", [2, 4])
def test_shares_of_all_ranks_are_the_global_batch(packed_shapes: Path, processes: int) -> None:
    options: dict[str, Any] = {"crop": 24, "augment": "flip"}
    whole = slices_of(packed_shapes, **options)
    ranks = [slices_of(packed_shapes, rank=r, processes=processes, **options) for r in range(processes)]
    for step in (0, 1, 7, 23):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part.images for part in parts]), whole[step].images)
        assert torch.equal(torch.cat([part.keys for part in parts]), whole[step].keys)
        assert [name for part in parts for name in part.names] == whole[step].names


def test_a_batch_depends_on_seed_and_step_alone(packed_shapes: Path) -> None:
    options: dict[str, Any] = {"crop": 24, "augment": "flip"}
    used, fresh = slices_of(packed_shapes, **options), slices_of(packed_shapes, **options)
    for step in range(9):
        used[step]
    assert same(used[4], fresh[4])
    assert not same(slices_of(packed_shapes, seed=1, **options)[4], fresh[4])


def test_memory_gives_what_the_file_gives(packed_shapes: Path) -> None:
    options: dict[str, Any] = {"crop": 24, "augment": "flip"}
    assert same(slices_of(packed_shapes, preload="ram", **options)[3], slices_of(packed_shapes, **options)[3])


def test_an_epoch_holds_each_training_slice_once(packed: Path) -> None:
    slices = slices_of(packed)
    names = [name for step in range(5) for name in slices[step].names]
    assert len(names) == 40
    assert len(set(names[:20])) == len(set(names[20:])) == 20
    reader = SliceReader(packed)
    held_out = {f"40x40_uint8:{row}" for split in ("validate", "test") for row in reader.rows("40x40_uint8", split)}
    assert not held_out & set(names)


def test_a_batch_holds_one_shape_at_native_size(packed_shapes: Path) -> None:
    slices = slices_of(packed_shapes)
    shapes = {tuple(slices[step].images.shape[2:]) for step in range(30)}
    assert shapes == {(41, 36), (40, 38), (33, 40)}
    reader = SliceReader(packed_shapes)
    batch = slices[0]
    for image, name in zip(batch.images, batch.names, strict=True):
        group, row = name.split(":")
        assert np.array_equal(image[0].numpy(), reader.scaled(group, int(row)))


def test_crops_lie_inside_the_head_and_are_windows_of_the_slice(packed: Path) -> None:
    reader, slices = SliceReader(packed), slices_of(packed, crop=16)
    corners = set()
    for step in range(20):
        batch = slices[step]
        for image, name in zip(batch.images, batch.names, strict=True):
            whole = reader.scaled("40x40_uint8", int(name.split(":")[1]))
            windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16))
            found = np.argwhere((windows == image[0].numpy()).all((2, 3)))
            assert len(found) == 1
            top, left = found[0]
            box = head_box(whole, noisy_air=False)
            assert box[0] <= top <= top + 16 <= box[1]
            assert box[2] <= left <= left + 16 <= box[3]
            corners.add((int(top), int(left)))
    assert len(corners) > 30


def test_crop_larger_than_the_head_covers_it(packed: Path) -> None:
    reader, slices = SliceReader(packed), slices_of(packed, crop=36)
    for step in range(3):
        batch = slices[step]
        for image, name in zip(batch.images, batch.names, strict=True):
            whole = reader.scaled("40x40_uint8", int(name.split(":")[1]))
            assert (image > 0.02).sum() == (whole > 0.02).sum()


def test_crop_larger_than_the_slice_is_the_slice(packed: Path) -> None:
    assert same(slices_of(packed, crop=64)[2], slices_of(packed)[2])


def test_flip_mirrors_about_half_of_the_slices(packed: Path) -> None:
    plain, flipped = slices_of(packed), slices_of(packed, augment="flip")
    mirrored = 0
    for step in range(20):
        for a, b in zip(plain[step].images, flipped[step].images, strict=True):
            assert torch.equal(b, a) or torch.equal(b, a.flip(-1))
            mirrored += int(torch.equal(b, a.flip(-1)))
    assert 55 < mirrored < 105


def test_black_slice_is_cropped_anywhere() -> None:
    assert head_box(np.zeros((20, 30), np.float32), noisy_air=False) == (0, 20, 0, 30)


def test_noise_in_the_air_is_not_the_head(tmp_path: Path) -> None:
    reader = SliceReader(write_packed(tmp_path / "noisy.h5", noisy_air=True))
    image = reader.scaled("40x40_uint8", 0)
    assert head_box(image, noisy_air=False) == (0, 40, 0, 40)
    top, bottom, left, right = head_box(image, noisy_air=True)
    assert top > 0
    assert left > 0
    assert bottom < 40
    assert right < 40


def test_an_empty_split_is_named(packed: Path, tmp_path: Path) -> None:
    path = write_packed(tmp_path / "no_train.h5", subjects=("validate", "test"))
    with pytest.raises(UsageError, match=r"no slices in split 'train' \(data.train_split\)"):
        slices_of(path)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_validation_sees_each_slice_once_over_the_ranks(packed_shapes: Path, processes: int) -> None:
    reader = SliceReader(packed_shapes)
    seen = [
        (batch.group, int(row))
        for rank in range(processes)
        for batch in split_batches(reader, "train", batch_size=3, rank=rank, processes=processes)
        for row in batch.rows
    ]
    wanted = [(group.name, int(row)) for group in reader.groups for row in reader.rows(group.name, "train")]
    assert sorted(seen) == sorted(wanted)
    shares = [
        sum(len(batch.rows) for batch in split_batches(reader, "train", batch_size=3, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    assert max(shares) - min(shares) <= 1
