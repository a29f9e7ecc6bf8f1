"""Scores and pictures of held-out slices during training: each slice once, whole, spread over the ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data_tools.slicefile import SliceReader
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_vqvae import VQVAE_METRICS
from vqvae_dist.data.slices import split_batches
from vqvae_dist.metrics.codebook import codebook_use, foreground_cells
from vqvae_dist.metrics.image import FIGURES, SliceScores, foreground_mask, score_batch
from vqvae_dist.models.vqvae import VQVAE
from vqvae_dist.pictures import Picture, comparison_picture
from vqvae_dist.training.runtime import Runtime

SCORES = tuple(name for name in FIGURES if name in VQVAE_METRICS)
"""The figures of a slice that a validation measures."""

BATCH = 8
"""Whole slices scored at once, at most."""

PICTURED = 8
"""Slices in each picture, the same ones throughout."""

M = TypeVar("M", bound=nn.Module)


@contextmanager
def scoring(model: M) -> Iterator[M]:
    """Give ``model`` in evaluation mode, uncompiled and without gradients, and put it back after."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield model
    finally:
        model.train(was_training)


class VQVAEValidation:
    """The validate split of a training."""

    def __init__(self, config: VQVAEConfig, runtime: Runtime, reader: SliceReader) -> None:
        self.config, self.runtime, self.reader = config, runtime, reader
        self.masks: dict[tuple[str, int], npt.NDArray[np.bool_]] = {}

    def scores(self, model: VQVAE) -> dict[str, float | None]:
        """Mean scores and codebook use over the split, in float32; empty without slices. Every rank calls it."""
        sums, K = np.zeros((len(SCORES), 2)), self.config.model.codebook_size
        counts = np.zeros((2, K))  # of all cells, of foreground cells
        batches = split_batches(
            self.reader,
            self.config.data.validate_split,
            batch_size=BATCH,
            rank=self.runtime.rank,
            processes=self.runtime.processes,
        )
        dtype = next(model.parameters()).dtype
        for group, rows, images in batches:
            output = model(images.to(self.runtime.device, dtype))
            masks = np.stack([self._mask(group, int(row), image[0]) for row, image in zip(rows, images, strict=True)])
            sums += score_sums(score_batch(images, output.reconstruction.cpu(), torch.from_numpy(masks[:, None])))
            for codes, mask in zip(output.codes.cpu().numpy(), masks, strict=True):
                inside = codes[foreground_cells(mask, model.downsample)]
                counts += np.stack([np.bincount(cells.ravel(), minlength=K) for cells in (codes, inside)])
        packed = torch.from_numpy(np.concatenate([sums.ravel(), counts.ravel()])).to(self.runtime.device)
        total = self.runtime.sum(packed).cpu().numpy()
        return means(total[: sums.size].reshape(sums.shape), total[sums.size :].reshape(counts.shape))

    def picture(self, model: VQVAE) -> Picture:
        """Some slices of the split (of the training split, if it is empty) above their reconstructions."""
        originals = self._pictured()
        dtype = next(model.parameters()).dtype
        return comparison_picture(originals, model(originals.to(self.runtime.device, dtype)).reconstruction.float())

    def _pictured(self) -> Tensor:
        """Slices spread evenly over the most frequent shape."""
        for split in (self.config.data.validate_split, self.config.data.train_split):
            name, rows = max(
                ((group.name, self.reader.rows(group.name, split)) for group in self.reader.groups),
                key=lambda item: len(item[1]),
            )
            if len(rows):
                chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURED, len(rows))).astype(int)]
                images = np.stack([self.reader.scaled(name, int(row)) for row in chosen])
                return torch.from_numpy(images[:, None])
        raise AssertionError("a training without slices does not start")

    def _mask(self, group: str, row: int, image: Tensor) -> npt.NDArray[np.bool_]:
        """Foreground of a slice, kept between validations."""
        found = self.masks.get((group, row))
        if found is None:
            noisy = bool(self.reader.index(group).noisy_air[row])
            found = self.masks[group, row] = foreground_mask(image.numpy(), noisy)
        return found


def score_sums(scores: list[SliceScores]) -> npt.NDArray[np.float64]:
    """(metrics, 2): the sum of each metric over the slices that have it, and their number."""
    columns = [[value for score in scores if (value := getattr(score, name)) is not None] for name in SCORES]
    return np.array([[sum(column), len(column)] for column in columns], dtype=np.float64)


def means(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Metrics from sums over all ranks."""
    if counts[0].sum() == 0:
        return {}
    use = codebook_use(counts[0].astype(np.int64), counts[1].astype(np.int64))
    return {
        **{name: float(total / n) if n else None for name, (total, n) in zip(SCORES, sums, strict=True)},
        **{name: value for name, value in use._asdict().items() if name in VQVAE_METRICS},
    }
