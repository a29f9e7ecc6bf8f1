"""How good a prior's samples are: drawn at the evaluated slices' positions and compared with those slices.

Every figure stands beside the same figure of real training slices of random subjects at the same positions: that is
what a perfect prior would reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_tools.console import progress
from data_tools.slicefile import SliceGroup, SliceReader
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.inference.prior import slice_condition
from vqvae_dist.inference.reference import MAX_SLICES
from vqvae_dist.inference.sampling import sample
from vqvae_dist.inference.slices import Chosen, batches, thinned
from vqvae_dist.metrics.samples import PATCH, ms_ssim_diversity, nearest_train, sliced_wasserstein

MAX_SAMPLES = 256
"""Samples that are drawn, evenly spaced over the evaluated slices where there are more."""

SAMPLES_AT_ONCE = 16

REFERENCE_DRAWS = 5
"""Draws of random training subjects that the real reference is averaged over."""

SEED = 0


def score_samples(vqvae: LoadedVQVAE, prior: LoadedPixelCNN, reader: SliceReader, chosen: Chosen) -> dict[str, Any]:
    """Draw a sample at the position of each chosen slice of the most frequent shape, and score them.

    Gives {samples, swd, swd_levels, ms_ssim_diversity, nearest_train, real: the same of training slices}, a figure
    None where it does not exist: fewer than two samples, no training slices, slices smaller than a patch.
    """
    name = max(chosen, key=lambda group: len(chosen[group]))
    group = reader.group(name)
    rows = thinned({name: chosen[name]}, MAX_SAMPLES)[name]
    evaluated = _read(reader, name, rows)
    train = reader.rows(name, "train")
    drawn = draw_samples(vqvae, prior, reader, group, rows)
    real = [_read(reader, name, alike) for alike in _training_draws(reader, name, rows, train)]
    return {
        "samples": len(drawn),
        **_scores(drawn, evaluated, reader, name, train),
        "real": {
            **_mean_scores([_look(images, evaluated) for images in real]),
            "nearest_train": _nearest(evaluated, reader, name, train),
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
    return torch.cat(drawn)


def _scores(
    images: Tensor, evaluated: Tensor, reader: SliceReader, name: str, train: NDArray[np.int64]
) -> dict[str, Any]:
    return {**_look(images, evaluated), "nearest_train": _nearest(images, reader, name, train)}


def _look(images: Tensor, evaluated: Tensor) -> dict[str, Any]:
    """Compare a set's patches with the evaluated slices', and measure its own variety."""
    levels = sliced_wasserstein(evaluated, images, seed=SEED) if min(images.shape[-2:]) >= PATCH else {}
    return {
        "swd": float(np.mean(list(levels.values()))) if levels else None,
        "swd_levels": {str(pixels): distance for pixels, distance in levels.items()},
        "ms_ssim_diversity": ms_ssim_diversity(images, seed=SEED),
    }


def _nearest(images: Tensor, reader: SliceReader, name: str, train: NDArray[np.int64]) -> float | None:
    """Give the median distance to the nearest training slice."""
    if not len(train):
        return None
    found = nearest_train(images, (batch.images[:, 0] for batch in batches(reader, thinned({name: train}, MAX_SLICES))))
    return float(np.median(found.rmse))


def _training_draws(
    reader: SliceReader, name: str, rows: NDArray[np.int64], train: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """For each row, draw a training subject and take its slice at the nearest position; several times over."""
    index, generator = reader.index(name), np.random.default_rng(SEED)
    of_subject = [train[index.subject[train] == subject] for subject in np.unique(index.subject[train])]
    for _ in range(REFERENCE_DRAWS if of_subject else 0):
        chosen = [of_subject[k] for k in generator.integers(len(of_subject), size=len(rows))]
        positions = index.position[rows]
        nearest = [own[np.abs(index.position[own] - p).argmin()] for own, p in zip(chosen, positions, strict=True)]
        yield np.array(nearest)


def _mean_scores(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Average figures, and the figures of each level, over several draws."""
    if not scores:
        return {"swd": None, "swd_levels": {}, "ms_ssim_diversity": None}

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    levels = {level: mean([score["swd_levels"][level] for score in scores]) for level in scores[0]["swd_levels"]}
    figures = {name: mean([score[name] for score in scores]) for name in ("swd", "ms_ssim_diversity")}
    return {**figures, "swd_levels": levels}


def _read(reader: SliceReader, name: str, rows: NDArray[np.int64]) -> Tensor:
    """Read slices as (N, H, W)."""
    return torch.cat([batch.images[:, 0] for batch in batches(reader, {name: rows})])
