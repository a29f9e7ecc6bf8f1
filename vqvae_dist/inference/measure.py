"""Measuring a VQ-VAE, and a prior, on slices: a row of figures for each, and how often each code was used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.console import CommandError
from data_tools.slicefile import SliceReader
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.inference.prior import code_bits, slice_condition
from vqvae_dist.inference.reference import Reference
from vqvae_dist.inference.slices import Chosen, SliceBatch, batches
from vqvae_dist.metrics.codebook import foreground_cells
from vqvae_dist.metrics.image import SliceScores, foreground_mask, score_slice
from vqvae_dist.metrics.rate import unigram_bits


class Bits(NamedTuple):
    """What the codes of a slice cost under a model."""

    total: float
    """Over all cells."""
    foreground: float
    """Over the foreground cells."""


@dataclass(frozen=True)
class SliceFigures:
    """What is known of one evaluated slice."""

    group: str
    row: int
    subject: int
    slice_index: int
    position: float
    noisy_air: bool
    pixels: int
    cells: int
    cells_foreground: int
    scores: SliceScores
    black: SliceScores
    """Of a black picture in the reconstruction's place."""
    mean_image: SliceScores | None
    """Of the mean training slice at this position; None without training slices of this shape."""
    unigram: Bits | None
    context: Bits | None
    prior: Bits | None


class Measurement:
    """Measures slices one by one and counts the codes they use."""

    def __init__(
        self, vqvae: LoadedVQVAE, reader: SliceReader, reference: Reference | None, prior: LoadedPixelCNN | None
    ) -> None:
        self.vqvae, self.reader, self.reference, self.prior = vqvae, reader, reference, prior
        K = vqvae.config.codebook_size
        self.counts = np.zeros(K, dtype=np.int64)
        """(K,): uses of each code, in all cells."""
        self.foreground_counts = np.zeros(K, dtype=np.int64)
        """(K,): in foreground cells."""
        self._unigram = None if reference is None else unigram_bits(reference.context.counts)

    def slices(self, chosen: Chosen) -> Iterator[SliceFigures]:
        """Measure each chosen slice once; ``check_sizes`` says which can be."""
        for batch in batches(self.reader, chosen, label="evaluating"):
            yield from self._batch(batch)

    def _batch(self, batch: SliceBatch) -> Iterator[SliceFigures]:
        with torch.inference_mode():
            output = self.vqvae.model(batch.images.to(self.vqvae.device))
        reconstructions = output.reconstruction[:, 0].float().cpu().numpy()
        codes = output.codes.cpu().numpy()
        prior_bits = self._prior_bits(batch, output.codes)
        for i, row in enumerate(batch.rows):
            if not np.isfinite(reconstructions[i]).all():
                raise CommandError(f"{batch.group.name} row {row}: the reconstruction is not finite; train again")
            bits = None if prior_bits is None else prior_bits[i]
            yield self._slice(batch, i, reconstructions[i], codes[i], bits)

    def _slice(
        self,
        batch: SliceBatch,
        i: int,
        reconstruction: NDArray[np.float32],
        codes: NDArray[np.int64],
        prior_bits: NDArray[np.float64] | None,
    ) -> SliceFigures:
        index, row = self.reader.index(batch.group.name), int(batch.rows[i])
        original, position = batch.images[i, 0].numpy(), float(index.position[row])
        mask = foreground_mask(original, bool(index.noisy_air[row]))
        inside = foreground_cells(mask, self.vqvae.config.downsample)
        self._count(codes, inside)
        reference = self.reference
        mean = None if reference is None else reference.means.at(original.shape, position)
        return SliceFigures(
            group=batch.group.name,
            row=row,
            subject=int(index.subject[row]),
            slice_index=int(index.slice_index[row]),
            position=position,
            noisy_air=bool(index.noisy_air[row]),
            pixels=original.size,
            cells=codes.size,
            cells_foreground=int(inside.sum()),
            scores=score_slice(original, reconstruction, mask),
            black=score_slice(original, np.zeros_like(original), mask),
            mean_image=None if mean is None else score_slice(original, mean, mask),
            unigram=None if self._unigram is None else _sum(self._unigram[codes], inside),
            context=None if reference is None else _sum(reference.context.bits(codes[None])[0], inside),
            prior=None if prior_bits is None else _sum(prior_bits, inside),
        )

    def _count(self, codes: NDArray[np.int64], inside: NDArray[np.bool_]) -> None:
        K = len(self.counts)
        self.counts += np.bincount(codes.ravel(), minlength=K)
        self.foreground_counts += np.bincount(codes[inside], minlength=K)

    def _prior_bits(self, batch: SliceBatch, codes: torch.Tensor) -> NDArray[np.float64] | None:
        """Charge every cell of a batch under the prior, (b, h, w)."""
        if self.prior is None:
            return None
        condition = slice_condition(self.reader, batch.group.name, batch.rows, classes=self.prior.classes)
        return code_bits(self.prior, codes, condition)


def _sum(bits: NDArray[np.float64], inside: NDArray[np.bool_]) -> Bits:
    return Bits(float(bits.sum()), float(bits[inside].sum()))
