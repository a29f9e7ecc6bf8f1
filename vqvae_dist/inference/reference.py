"""What an evaluation learns from training slices: how their codes are distributed, and what they look like on average.

Rates are charged under these statistics, never under the evaluated slices' own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.slicefile import SliceReader
from vqvae_dist.inference.load import LoadedVQVAE
from vqvae_dist.inference.slices import batches, count, rows_of_split, thinned
from vqvae_dist.metrics.rate import ContextModel

MAX_SLICES = 4096
"""Training slices that are looked at, evenly spaced over the split where there are more."""

POSITION_BINS = 16
"""Mean images are kept for this many ranges of the slice position, for each shape."""

Image = NDArray[np.float32]


class MeanImages:
    """The mean training slice at each position in the volume."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, ...], dict[int, Image]] = {}
        self._counts: dict[tuple[int, ...], dict[int, int]] = {}

    def add(self, image: Image, position: float) -> None:
        """Take a training slice (H, W) in."""
        sums = self._sums.setdefault(image.shape, {})
        counts = self._counts.setdefault(image.shape, {})
        place = _bin(position)
        sums[place] = sums.get(place, np.float32(0)) + image
        counts[place] = counts.get(place, 0) + 1

    def at(self, shape: tuple[int, int], position: float) -> Image | None:
        """Give the mean slice (H, W) of the nearest position that has any; None for a shape never seen."""
        sums = self._sums.get(shape)
        if sums is None:
            return None
        place = min(sums, key=lambda other: (abs(other - _bin(position)), other))
        return sums[place] / np.float32(self._counts[shape][place])


class Reference(NamedTuple):
    """Statistics of training slices."""

    context: ContextModel
    means: MeanImages
    slices: int


def learn_reference(vqvae: LoadedVQVAE, reader: SliceReader, split: str) -> Reference | None:
    """Encode the training slices of the file that ``split`` is evaluated from.

    None where the file has none; and where it is not the file that the VQ-VAE was trained on and its training slices
    are among the evaluated ones: those would be charged under their own statistics.
    """
    own_training_data = reader.digest == vqvae.description.get("data_digest")
    if not own_training_data and split in ("train", "all"):
        return None
    if not any(len(reader.rows(group.name, "train")) for group in reader.groups):
        return None
    chosen = thinned(rows_of_split(reader, "train"), MAX_SLICES)
    context, means = ContextModel(vqvae.config.codebook_size), MeanImages()
    for batch in batches(reader, chosen, label="encoding training slices"):
        with torch.inference_mode():
            context.add(vqvae.model.encode(batch.images.to(vqvae.device)).cpu().numpy())
        positions = reader.index(batch.group.name).position[batch.rows]
        for image, position in zip(batch.images[:, 0].numpy(), positions, strict=True):
            means.add(image, float(position))
    return Reference(context, means, count(chosen))


def _bin(position: float) -> int:
    return min(int(position * POSITION_BINS), POSITION_BINS - 1)
