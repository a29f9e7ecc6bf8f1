"""``likelihood-map``: how unlikely each code of a slice is under a prior; what is rare in anatomy stands out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_tools.console import say
from data_tools.flags import PackedPath, RunPath, Switch
from data_tools.slicefile import SliceGroup, SliceReader
from vqvae_dist.config import Split
from vqvae_dist.hdf5_files import new_hdf5
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.inference.output import staged_results
from vqvae_dist.inference.prior import code_bits, load_pair, slice_condition
from vqvae_dist.inference.slices import Chosen, batches, rows_of_split
from vqvae_dist.metrics.codebook import foreground_cells
from vqvae_dist.metrics.image import foreground_mask
from vqvae_dist.pictures import comparison_picture, save_picture

WHITE = 2.0
"""Surprise shown as white, in units of log2 K: a code that is as likely as in a uniform draw is mid-gray."""


def likelihood_map(
    *, vqvae: RunPath, pixelcnn: RunPath, data: PackedPath, split: Split, output: Path, overwrite: Switch = False
) -> None:
    """Score every code of a split under a prior.

    Writes likelihood.h5 (for each group of the packed file, bits (N, h, w) and the rows they belong to),
    per_slice.csv, and for each slice a picture of it above its map, black 0 bits and mid-gray log2 K.

    Args:
        vqvae: Run folder of the VQ-VAE.
        pixelcnn: Run folder of the prior over its codes.
        data: Packed slices.
        split: Which slices.
        output: Folder to write to.
        overwrite: Replace what is there.
    """
    images, prior = load_pair(vqvae, pixelcnn)
    reader = SliceReader(data)
    reader.check_digest()
    chosen = rows_of_split(reader, split)
    names = ("pictures", "likelihood.h5", "per_slice.csv")
    with staged_results(output, names, overwrite=overwrite, inputs=[data]) as staged:
        write_scores(staged, images, prior, reader, chosen)
    say(f"{output}: likelihood.h5, per_slice.csv and a picture of each slice")


def write_scores(folder: Path, images: LoadedVQVAE, prior: LoadedPixelCNN, reader: SliceReader, chosen: Chosen) -> None:
    """Score the chosen slices, and write maps, table and pictures to ``folder``."""
    table_file, pictures = folder / "per_slice.csv", folder / "pictures"
    with new_hdf5(folder / "likelihood.h5") as (maps, check_disk), table_file.open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["subject", "group", "row", "slice_index", "position", *SliceBits._fields])
        for scored in score(images, prior, reader, chosen):
            _store(maps, scored, len(chosen[scored.group.name]))
            check_disk()
            for row, image, bits in zip(scored.rows, scored.images, scored.bits, strict=True):
                index = reader.index(scored.group.name)
                place = reader.subjects[index.subject[row]], scored.group.name, row
                summary = slice_bits(image[0].numpy(), bool(index.noisy_air[row]), bits, images.config.downsample)
                writer.writerow([*place, index.slice_index[row], f"{index.position[row]:.4f}", *summary])
                shown = surprise_image(bits, images, (scored.group.height, scored.group.width))
                save_picture(pictures / f"{scored.group.name}_{row:05}.png", comparison_picture(image[None], shown))


class ScoredBatch(NamedTuple):
    """Some slices of a group with the bits of their codes."""

    group: SliceGroup
    rows: npt.NDArray[np.int64]
    images: Tensor
    """(b, 1, H, W)"""
    bits: npt.NDArray[np.float64]
    """(b, h, w)"""


class SliceBits(NamedTuple):
    """A slice's cost under the prior."""

    bits_per_code: float
    bits_per_code_foreground: float | None
    highest_bits: float


def score(images: LoadedVQVAE, prior: LoadedPixelCNN, reader: SliceReader, chosen: Chosen) -> Iterator[ScoredBatch]:
    """Score the chosen slices batch by batch."""
    for group, rows, pixels in batches(reader, chosen, label="scoring"):
        with torch.inference_mode():
            codes = images.model.encode(pixels.to(images.device))
        condition = slice_condition(reader, group.name, rows, classes=prior.classes)
        yield ScoredBatch(group, rows, pixels, code_bits(prior, codes, condition))


def slice_bits(
    image: npt.NDArray[np.float32], noisy_air: bool, bits: npt.NDArray[np.float64], downsample: int
) -> SliceBits:
    """Sum a map (h, w) of the slice ``image`` (H, W) up."""
    inside = bits[foreground_cells(foreground_mask(image, noisy_air), downsample)]
    return SliceBits(float(bits.mean()), float(inside.mean()) if inside.size else None, float(bits.max()))


def surprise_image(bits: npt.NDArray[np.float64], images: LoadedVQVAE, size: tuple[int, int]) -> Tensor:
    """A map (h, w) of bits as an image (1, 1, H, W) on [0, 1], each cell over the pixels it stands for."""
    shown = torch.from_numpy(bits / (WHITE * math.log2(images.config.codebook_size))).float()
    d = images.config.downsample
    return shown.repeat_interleave(d, dim=0).repeat_interleave(d, dim=1)[None, None, : size[0], : size[1]]


def _store(maps: h5py.File, scored: ScoredBatch, total: int) -> None:
    """Append a batch to the maps of its group."""
    count, h, w = scored.bits.shape
    group = maps.require_group(scored.group.name)
    bits = group.require_dataset("bits", (total, h, w), "f4")
    rows = group.require_dataset("rows", (total,), "i8")
    done = int(group.attrs.get("done", 0))
    bits[done : done + count], rows[done : done + count] = scored.bits, scored.rows
    group.attrs["done"] = done + count
