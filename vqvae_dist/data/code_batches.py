"""Training batches and held-out code maps from a codes file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_tools.console import UsageError
from vqvae_dist.counter_random import keys
from vqvae_dist.data.codes import CodesGroup, CodesReader
from vqvae_dist.data.order import SampleOrder

KEY_STREAM = 5
"""Stream of ``counter_random`` that keys a sample's dropout."""


class CodesBatch(NamedTuple):
    """This process's share of a global batch."""

    codes: Tensor
    """(b, h, w) int64; all of one grid."""

    position: Tensor
    """(b,) float32: where each slice lies in its volume, 0..1."""

    label: Tensor
    """(b,) int64: class, -1 where there is none."""

    flipped: Tensor
    """(b,) float32: 1 for a mirrored view."""

    keys: Tensor
    """(b,) int64: the random key of each sample's place in the run."""

    names: list[str]
    """``group:row`` of each map, for messages."""


class TrainingCodes:
    """``codes[step]`` is this process's share of that step's global batch; safe to use in worker processes."""

    def __init__(
        self,
        path: str,
        split: str,
        *,
        in_memory: bool,
        seed: int,
        batch_size: int,
        rank: int,
        share: int,
        digest: str | None = None,
    ) -> None:
        """``digest``: the content that ``path`` must have, where the run has begun with it."""
        self.reader = CodesReader(path, digest)
        self.seed, self.rank, self.share = seed, rank, share
        found = [(group, self.reader.rows(group.name, split, views=True)) for group in self.reader.groups]
        self.groups = [(group, rows) for group, rows in found if len(rows)]
        if not self.groups:
            raise UsageError(f"{path}: no codes in split {split!r} (data.train_split)")
        self.order = SampleOrder(tuple(len(rows) for _, rows in self.groups), seed=seed, batch_size=batch_size)
        self.memory = [
            self.reader.codes(group.name, rows).astype(np.uint16) for group, rows in self.groups if in_memory
        ]

    def __getitem__(self, step: int) -> CodesBatch:
        plan = self.order.at(step)
        group, rows = self.groups[plan.shape]
        mine = slice(self.rank * self.share, (self.rank + 1) * self.share)
        chosen = rows[plan.rows[mine]]
        if self.memory:
            codes = self.memory[plan.shape][plan.rows[mine]].astype(np.int64)
        else:
            codes = self.reader.codes(group.name, chosen)
        sample_keys = torch.from_numpy(keys(self.seed, KEY_STREAM, plan.positions[mine]))
        return labelled(self.reader, group, chosen, codes, sample_keys)


def labelled(
    reader: CodesReader,
    group: CodesGroup,
    rows: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    sample_keys: Tensor,
) -> CodesBatch:
    """Put code maps (b, h, w) of ``rows`` together with what the prior is conditioned on."""
    index = reader.index(group.name)
    return CodesBatch(
        torch.from_numpy(codes),
        torch.from_numpy(index.position[rows]),
        torch.from_numpy(index.label[rows].astype(np.int64)),
        torch.from_numpy(index.flipped[rows].astype(np.float32)),
        sample_keys,
        [f"{group.name}:{row}" for row in rows],
    )


class HeldOutBatch(NamedTuple):
    """Some unaltered code maps of one grid."""

    batch: CodesBatch
    foreground: Tensor
    """(b, h, w) bool: cells that hold foreground."""


def split_codes(
    reader: CodesReader, split: str, *, batch_size: int, rank: int = 0, processes: int = 1
) -> Iterator[HeldOutBatch]:
    """Every code map of a split once, only the slices as they are, spread over the processes, in file order."""
    start = 0
    for group in reader.groups:
        rows = reader.rows(group.name, split, views=False)
        mine = rows[(rank - start) % processes :: processes]
        start += len(rows)
        for first in range(0, len(mine), batch_size):
            part = mine[first : first + batch_size]
            codes = reader.codes(group.name, part)
            batch = labelled(reader, group, part, codes, torch.zeros(len(part), dtype=torch.int64))
            yield HeldOutBatch(batch, torch.from_numpy(reader.foreground(group.name, part)))
