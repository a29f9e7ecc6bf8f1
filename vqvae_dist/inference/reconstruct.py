"""``reconstruct``: pictures of slices, of what the VQ-VAE makes of them, and of the difference."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_tools.console import UsageError, say
from data_tools.slicefile import SliceReader
from vqvae_dist.config import Split
from vqvae_dist.inference.load import LoadedVQVAE, load_vqvae
from vqvae_dist.inference.output import claim
from vqvae_dist.inference.slices import Chosen, batches, rows_of_split
from vqvae_dist.pictures import comparison_picture, grid_picture, save_picture

ERROR_GAIN = 4
"""Error maps show |original - reconstruction| this many times brighter; the files' names say so."""


class Pair(NamedTuple):
    """A slice and its reconstruction, (1, H, W) each on [0, 1]."""

    row: int
    original: Tensor
    reconstruction: Tensor

    @property
    def error(self) -> Tensor:
        """The error map, brightened."""
        return ERROR_GAIN * (self.original - self.reconstruction).abs()


def reconstruct(*, run: Path, data: Path, split: Split, output: Path, count: int = 8, overwrite: bool = False) -> None:
    """Picture what the best VQ-VAE of a run makes of slices of a split.

    For each shape GROUP: GROUP_reconstructions.png has originals above their reconstructions, GROUP_errors_x4.png the
    error maps in the same order, and the folder GROUP/ single pictures. All are lossless PNG, a pixel a pixel.

    Args:
        run: Run folder of train-vqvae.
        data: Packed slices.
        split: Where slices are taken from, evenly spaced.
        output: Folder for the pictures.
        count: Slices of each shape.
        overwrite: Replace earlier pictures.
    """
    if count < 1:
        raise UsageError(f"--count must be 1 or more, got {count}")
    vqvae, reader = load_vqvae(run), SliceReader(data)
    reader.check_digest()
    chosen = _evenly(rows_of_split(reader, split), count)
    grids = {name: (output / f"{name}_reconstructions.png", output / f"{name}_{_ERRORS}.png") for name in chosen}
    singles = {name: [_singles(output, name, int(row)) for row in rows] for name, rows in chosen.items()}
    written = [*grids.values(), *(paths for rows in singles.values() for paths in rows)]
    claim([path for paths in written for path in paths], overwrite=overwrite)
    for name, rows in chosen.items():
        pairs = reconstructed(vqvae, reader, {name: rows})
        _save_grids(*grids[name], pairs)
        for paths, pair in zip(singles[name], pairs, strict=True):
            for path, image in zip(paths, (pair.original, pair.reconstruction, pair.error), strict=True):
                save_picture(path, grid_picture(image[None], columns=1))
        say(f"{grids[name][0]}: {len(pairs)} slices above their reconstructions; single pictures in {output / name}")


def reconstructed(vqvae: LoadedVQVAE, reader: SliceReader, chosen: Chosen) -> list[Pair]:
    """Reconstruct the chosen slices."""
    pairs = []
    for batch in batches(reader, chosen):
        with torch.inference_mode():
            images = vqvae.model(batch.images.to(vqvae.device)).reconstruction.float().clamp(0, 1).cpu()
        rows = [int(row) for row in batch.rows]
        pairs += [Pair(*pair) for pair in zip(rows, batch.images, images, strict=True)]
    return pairs


_ERRORS = f"errors_x{ERROR_GAIN}"


def _save_grids(reconstructions: Path, errors: Path, pairs: list[Pair]) -> None:
    originals = torch.stack([pair.original for pair in pairs])
    save_picture(reconstructions, comparison_picture(originals, torch.stack([pair.reconstruction for pair in pairs])))
    save_picture(errors, grid_picture(torch.stack([pair.error for pair in pairs]), columns=len(pairs)))


def _singles(output: Path, group: str, row: int) -> list[Path]:
    """Name the single pictures of a slice: original, reconstruction, error."""
    return [output / group / f"row{row:06d}_{kind}.png" for kind in ("original", "reconstruction", _ERRORS)]


def _evenly(chosen: Chosen, most: int) -> Chosen:
    """Keep up to ``most`` rows of each group, evenly spaced."""
    return {
        name: rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)] for name, rows in chosen.items()
    }
