"""Training batches and validation slices, at native size, from a packed file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_tools.console import CommandError, UsageError
from data_tools.slicefile import SliceGroup, SliceReader, scale_to_unit
from vqvae_dist.config import DataConfig
from vqvae_dist.counter_random import keys, uniforms
from vqvae_dist.data.order import SampleOrder
from vqvae_dist.metrics.image import WINDOW, foreground_mask

CROP_STREAM, FLIP_STREAM, KEY_STREAM = 2, 3, 4


class SliceBatch(NamedTuple):
    """This process's share of a global batch."""

    images: Tensor
    """(b, 1, H, W) float32 in [0, 1]; all of one shape."""

    keys: Tensor
    """(b,) int64: the random key of each sample's place in the run."""

    names: list[str]
    """``group:row`` of each slice, for messages."""


def check_sizes(reader: SliceReader, groups: Iterable[str]) -> None:
    """CommandError for slices of ``groups`` that are smaller than the SSIM window."""
    for group in map(reader.group, groups):
        if min(group.height, group.width) < WINDOW:
            raise CommandError(
                f"{reader.path}: {group.name}: SSIM needs slices of at least {WINDOW}x{WINDOW} pixels; "
                "pack without their files, or with another --axis"
            )


class TrainingSlices:
    """``slices[step]`` is this process's share of that step's global batch; safe to use in worker processes."""

    def __init__(
        self,
        path: str,
        config: DataConfig,
        *,
        seed: int,
        batch_size: int,
        rank: int,
        share: int,
        digest: str | None = None,
    ) -> None:
        """``digest``: the content that ``path`` must have, where the run has begun with it."""
        self.reader = SliceReader(path, digest)
        self.config, self.seed, self.rank, self.share = config, seed, rank, share
        found = [(group, self.reader.rows(group.name, config.train_split)) for group in self.reader.groups]
        self.groups = [(group, rows) for group, rows in found if len(rows)]
        if not self.groups:
            raise UsageError(f"{path}: no slices in split {config.train_split!r} (data.train_split)")
        counts = tuple(len(rows) for _, rows in self.groups)
        self.order = SampleOrder(counts, seed=seed, batch_size=batch_size)
        self.memory: dict[str, dict[int, npt.NDArray[Any]]] = {}
        self.boxes: dict[tuple[str, int], tuple[int, int, int, int]] = {}
        if config.preload == "ram":
            for group, rows in self.groups:
                self.memory[group.name] = {int(row): self.reader.read(group.name, int(row)) for row in rows}

    def __getitem__(self, step: int) -> SliceBatch:
        plan = self.order.at(step)
        group, rows = self.groups[plan.shape]
        mine = slice(self.rank * self.share, (self.rank + 1) * self.share)
        places, chosen = plan.positions[mine], rows[plan.rows[mine]].tolist()
        images = self._images(group, chosen, places)
        return SliceBatch(
            torch.from_numpy(images[:, None]),
            torch.from_numpy(keys(self.seed, KEY_STREAM, places)),
            [f"{group.name}:{row}" for row in chosen],
        )

    def _images(self, group: SliceGroup, rows: list[int], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Slices (b, H, W), or windows of them, scaled."""
        index, stored = self.reader.index(group.name), self.memory.get(group.name, {})
        sides = (min(side, self.config.crop or side) for side in (group.height, group.width))
        images = np.empty((len(rows), *sides), np.float32)
        corners = uniforms(self.seed, CROP_STREAM, np.stack([2 * places, 2 * places + 1], axis=1))
        flipped = uniforms(self.seed, FLIP_STREAM, places) < (0.5 if self.config.augment == "flip" else 0.0)
        for number, row in enumerate(rows):
            raw = stored[row] if stored else self.reader.read(group.name, row)
            if self.config.crop:
                raw = self._crop(group.name, row, raw, *corners[number])
            scale_to_unit(raw[:, ::-1] if flipped[number] else raw, index.window[row], out=images[number])
        return images

    def _crop(self, group: str, row: int, image: npt.NDArray[Any], u: float, v: float) -> npt.NDArray[Any]:
        """A window of ``crop`` stored pixels inside the head's box, or around it where the box is smaller."""
        box = self.boxes.get((group, row))
        if box is None:
            index = self.reader.index(group)
            box = head_box(scale_to_unit(image, index.window[row]), bool(index.noisy_air[row]))
            self.boxes[group, row] = box
        top = _window(box[0], box[1], image.shape[0], self.config.crop, u)
        left = _window(box[2], box[3], image.shape[1], self.config.crop, v)
        return image[top : top + self.config.crop, left : left + self.config.crop]


def head_box(image: npt.NDArray[np.float32], noisy_air: bool) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right; ends exclusive) of the foreground; all if there is none."""
    mask = foreground_mask(image, noisy_air)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return 0, image.shape[0], 0, image.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _window(low: int, high: int, side: int, crop: int, u: float) -> int:
    """Start of a window of ``crop`` within [0, side): inside [low, high) where it fits, else over it."""
    first, last = sorted((low, high - crop))
    first, last = max(0, min(first, side - crop)), max(0, min(last, side - crop))
    return first + int(u * (last - first + 1))


class ValidationBatch(NamedTuple):
    """Some slices of one shape."""

    group: str
    rows: npt.NDArray[np.int64]
    images: Tensor
    """(b, 1, H, W) float32 in [0, 1]."""


def split_batches(
    reader: SliceReader, split: str, *, batch_size: int, rank: int = 0, processes: int = 1
) -> Iterator[ValidationBatch]:
    """Every slice of a split once, spread over the processes, whole and in file order."""
    start = 0
    for group in reader.groups:
        rows = reader.rows(group.name, split)
        mine = rows[(rank - start) % processes :: processes]
        start += len(rows)
        for first in range(0, len(mine), batch_size):
            part = mine[first : first + batch_size]
            images = np.stack([reader.scaled(group.name, int(row)) for row in part])
            yield ValidationBatch(group.name, part, torch.from_numpy(images[:, None]))
