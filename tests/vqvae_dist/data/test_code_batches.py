from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.console import UsageError
from tests.vqvae_dist.data.code_files import write
from vqvae_dist.data.code_batches import TrainingCodes, split_codes
from vqvae_dist.data.codes import CodesReader


@pytest.mark.parametrize("in_memory", [True, False])
def test_ranks_share_out_the_global_batch_whatever_their_number(tmp_path: Path, in_memory: bool) -> None:
    path = write(tmp_path / "codes.h5")

    def batches(processes: int, step: int) -> list[tuple[list[Any], ...]]:
        share = 8 // processes
        parts = [
            TrainingCodes(
                str(path), "all", in_memory=in_memory, seed=1, batch_size=8, rank=rank, share=share
            )[step]
            for rank in range(processes)
        ]  # fmt: skip
        return [tuple(tensor[i].tolist() for tensor in part[:5]) for part in parts for i in range(share)]

    for step in range(6):
        assert batches(1, step) == batches(2, step) == batches(4, step)


def test_a_batch_pairs_codes_with_their_conditions(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5", label=np.arange(12) % 2, flipped=np.arange(12) % 2)
    reader = CodesReader(path)
    training = TrainingCodes(str(path), "train", in_memory=True, seed=0, batch_size=6, rank=0, share=6)
    for step in range(4):
        batch = training[step]
        for i, name in enumerate(batch.names):
            group, row = name.split(":")
            index = reader.index(group)
            assert index.split[int(row)] == 0
            assert np.array_equal(batch.codes[i], reader.codes(group, np.array([int(row)]))[0])
            assert batch.position[i] == index.position[int(row)]
            assert batch.label[i] == index.label[int(row)] == batch.flipped[i]


def test_an_empty_split_cannot_be_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.h5", split=np.zeros(12))
    with pytest.raises(UsageError, match="no codes in split 'test'"):
        TrainingCodes(str(path), "test", in_memory=False, seed=0, batch_size=2, rank=0, share=2)


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_held_out_maps_are_seen_once_and_unaltered(tmp_path: Path, processes: int) -> None:
    reader = CodesReader(write(tmp_path / "codes.h5", view=np.arange(12) // 9))
    seen = [
        name
        for rank in range(processes)
        for batch, foreground in split_codes(reader, "validate", batch_size=2, rank=rank, processes=processes)
        for name in batch.names
        if foreground.shape == batch.codes.shape
    ]
    assert sorted(seen) == [
        "3x3_of_12x12_uint8:1", "3x3_of_12x12_uint8:4",
        "4x5_of_15x18_uint8:1", "4x5_of_15x18_uint8:4", "4x5_of_15x18_uint8:7",
    ]  # fmt: skip
