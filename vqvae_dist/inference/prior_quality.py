"""How good a prior's samples are: drawn at the evaluated slices' positions and compared with those slices.

Every figure stands beside the same figure of real training slices of random subjects at the same positions, which is
what a perfect prior would reach, and beside that of the evaluated slices' own reconstructions, which is what the
VQ-VAE leaves room for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_tools.console import progress
from data_tools.slicefile import SliceGroup, SliceReader
from vqvae_dist.inference.comparison import SEED, Comparison, mean_figures
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.inference.prior import slice_condition
from vqvae_dist.inference.reference import MAX_SLICES
from vqvae_dist.inference.slices import Chosen, batches, thinned
from vqvae_dist.metrics.features import reduced
from vqvae_dist.metrics.samples import Nearest, nearest_train
from vqvae_dist.models.sampling import sample
from vqvae_dist.pictures import comparison_picture, save_picture

MAX_SAMPLES = 256
"""Samples that are drawn, evenly spaced over the evaluated slices where there are more."""

SAMPLES_AT_ONCE = 16

SHAPE_DRAWS = 200
"""Draws of random training subjects that the real reference's anatomy, detail and variety are averaged over."""

PICTURED = 12


class Rows(NamedTuple):
    """The slices of the most frequent shape that take part."""

    name: str
    evaluated: NDArray[np.int64]
    train: NDArray[np.int64]
    """At most ``MAX_SLICES``, evenly spaced."""


def score_samples(
    vqvae: LoadedVQVAE,
    prior: LoadedPixelCNN,
    reader: SliceReader,
    chosen: Chosen,
    *,
    reference_draws: int,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Draw a sample at the position of each chosen slice of the most frequent shape, and score them.

    Gives {samples, the figures of ``Comparison``, nearest_train, reconstructions: the same figures, real: the same of
    training slices}, a figure None where it does not exist: fewer than two samples, no training slices, slices
    smaller than a patch. ``picture`` shows samples above the nearest training slice of each, as the VQ-VAE draws it.
    """
    name = max(chosen, key=lambda group: len(chosen[group]))
    train = reader.rows(name, "train")
    kept = thinned({name: train}, MAX_SLICES)[name] if len(train) else train
    rows = Rows(name, thinned({name: chosen[name]}, MAX_SAMPLES)[name], kept)
    evaluated, index = _read(reader, name, rows.evaluated), reader.index(name)
    small = [reduced(images) for images in _stream(reader, name, rows.train)]
    comparison = Comparison(
        evaluated,
        index.position[rows.evaluated],
        torch.cat(small) if small else torch.zeros(0),
        noisy_air=bool(index.noisy_air[rows.evaluated].any()),
    )
    drawn = draw_samples(vqvae, prior, reader, reader.group(name), rows.evaluated)
    nearest = nearest_train(drawn, _stream(reader, name, rows.train))
    if picture is not None and small:
        shown = np.linspace(0, len(drawn) - 1, min(PICTURED, len(drawn))).astype(int)
        near = _reconstructed(vqvae, _read(reader, name, rows.train[nearest.number[shown]]))
        save_picture(picture, comparison_picture(drawn[shown][:, None], near[:, None]))
    return {
        "samples": len(drawn),
        **comparison.scores(drawn),
        "nearest_train": median(nearest),
        "reconstructions": comparison.scores(_reconstructed(vqvae, evaluated)),
        "real": {
            **real_reference(comparison, reader, rows, reference_draws),
            "nearest_train": median(nearest_train(evaluated, _stream(reader, name, rows.train))),
        },
    }


def draw_samples(
    vqvae: LoadedVQVAE, prior: LoadedPixelCNN, reader: SliceReader, group: SliceGroup, rows: NDArray[np.int64]
) -> Tensor:
    """Draw a slice under the conditions of each row, (N, H, W) on [0, 1]."""
    size = (group.height, group.width)
    starts = range(0, len(rows), SAMPLES_AT_ONCE)
    drawn = []
    for start in progress(starts, total=len(starts), label="drawing samples"):
        condition = slice_condition(reader, group.name, rows[start : start + SAMPLES_AT_ONCE], classes=prior.classes)
        grid = vqvae.model.grid(size)
        codes = sample(prior.model, grid=grid, condition=condition, seed=SEED, first_sample=start)
        with torch.inference_mode():
            drawn.append(vqvae.model.decode(codes.to(vqvae.device), size)[:, 0].float().clamp(0, 1).cpu())
    return torch.cat(drawn).clone()


def real_reference(comparison: Comparison, reader: SliceReader, rows: Rows, reference_draws: int) -> dict[str, Any]:
    """The figures of training slices of random subjects in the samples' place, averaged over draws."""
    if not len(rows.train):
        empty = comparison.scores(comparison.evaluated)
        return {name: {} if isinstance(value, dict) else None for name, value in empty.items()}
    described = comparison.describe_all(_stream(reader, rows.name, rows.train))
    draws = list(training_draws(reader, rows, max(SHAPE_DRAWS, reference_draws)))
    looked_at = progress(draws[:reference_draws], total=reference_draws, label="comparing training slices")
    look = [comparison.look(_read(reader, rows.name, drawn)) for drawn in looked_at]
    return mean_figures(look) | mean_figures(
        [comparison.shape(described.of(np.searchsorted(rows.train, drawn))) for drawn in draws]
    )


def training_draws(reader: SliceReader, rows: Rows, draws: int) -> Iterator[NDArray[np.int64]]:
    """For each evaluated row, draw a training subject and take its slice at the nearest position; several times."""
    index, generator, train = reader.index(rows.name), np.random.default_rng(SEED), rows.train
    of_subject = [train[index.subject[train] == subject] for subject in np.unique(index.subject[train])]
    positions = index.position[rows.evaluated]
    for _ in range(draws):
        chosen = [of_subject[k] for k in generator.integers(len(of_subject), size=len(positions))]
        yield np.array(
            [own[np.abs(index.position[own] - p).argmin()] for own, p in zip(chosen, positions, strict=True)]
        )


def median(found: Nearest) -> float | None:
    """The median distance to the nearest training slice; None without any."""
    distance = float(np.median(found.rmse))
    return distance if np.isfinite(distance) else None


@torch.inference_mode()
def _reconstructed(vqvae: LoadedVQVAE, images: Tensor) -> Tensor:
    """What the VQ-VAE makes of slices (N, H, W), on [0, 1]."""
    parts = [vqvae.model(part[:, None].to(vqvae.device)).reconstruction for part in images.split(SAMPLES_AT_ONCE)]
    return torch.cat(parts)[:, 0].float().clamp(0, 1).cpu()


def _stream(reader: SliceReader, name: str, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Read slices as (n, H, W), some at a time."""
    return (batch.images[:, 0] for batch in batches(reader, {name: rows}))


def _read(reader: SliceReader, name: str, rows: NDArray[np.int64]) -> Tensor:
    """Read slices as (N, H, W)."""
    return torch.cat(list(_stream(reader, name, rows)))
