"""The slices of a split for inference: whole, in file order, in batches that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_tools.console import UsageError, progress
from data_tools.slicefile import SPLITS, SliceGroup, SliceReader

PIXELS_AT_ONCE = 2**20
"""Of a batch: 12 slices of 288×288, 1 of 1024×1024; the first layers hold some hundred numbers a pixel."""

Chosen = Mapping[str, NDArray[np.int64]]
"""Row numbers in file order, by group."""


class SliceBatch(NamedTuple):
    """Slices of one group."""

    group: SliceGroup
    rows: NDArray[np.int64]
    images: Tensor
    """(b, 1, H, W) float32 on [0, 1], on the CPU."""


def rows_of_split(reader: SliceReader, split: str) -> Chosen:
    """Give the rows of a split by group, without groups that have none; UsageError for an empty split."""
    chosen = {group.name: reader.rows(group.name, split) for group in reader.groups}
    if not any(len(rows) for rows in chosen.values()):
        counts = {name: sum(len(reader.rows(group.name, name)) for group in reader.groups) for name in SPLITS}
        has = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(f"{reader.path}: no slices in split {split}; it has {has}; --split all takes every slice")
    return {name: rows for name, rows in chosen.items() if len(rows)}


def thinned(chosen: Chosen, most: int) -> Chosen:
    """Keep about ``most`` slices, evenly spaced over each group, and at least one of each."""
    total = count(chosen)
    if total <= most:
        return chosen
    kept = {name: max(1, len(rows) * most // total) for name, rows in chosen.items()}
    return {name: rows[np.linspace(0, len(rows) - 1, kept[name]).astype(int)] for name, rows in chosen.items()}


def count(chosen: Chosen) -> int:
    """Give the number of slices."""
    return sum(len(rows) for rows in chosen.values())


def batches(reader: SliceReader, chosen: Chosen, *, label: str = "") -> Iterator[SliceBatch]:
    """Read the chosen slices batch by batch; with a label, show how far it is."""
    plan = [(reader.group(name), part) for name, rows in chosen.items() for part in _parts(reader.group(name), rows)]
    items = progress(plan, total=len(plan), label=label) if label else iter(plan)
    for group, rows in items:
        images = np.stack([reader.scaled(group.name, int(row)) for row in rows])
        yield SliceBatch(group, rows, torch.from_numpy(images)[:, None])


def _parts(group: SliceGroup, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    size = max(1, PIXELS_AT_ONCE // (group.height * group.width))
    return [rows[start : start + size] for start in range(0, len(rows), size)]
