"""``reconstruct``: pictures of slices, of what the VQ-VAE makes of them, and of the difference."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_tools.console import UsageError, counted, say
from data_tools.flags import PackedPath, RunPath, Switch
from data_tools.slicefile import SliceReader
from vqvae_dist.config import Split
from vqvae_dist.inference.load import LoadedVQVAE, load_vqvae
from vqvae_dist.inference.output import staged_results
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


def reconstruct(
    *, run: RunPath, data: PackedPath, split: Split, output: Path, count: int = 8, overwrite: Switch = False
) -> None:
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
    names = [name for group in chosen for name in (group, *_grid_names(group))]
    with staged_results(output, names, overwrite=overwrite, inputs=[data]) as staged:
        for group, rows in chosen.items():
            _save_pictures(staged, group, reconstructed(vqvae, reader, {group: rows}))
    for group, rows in chosen.items():
        grid = output / _grid_names(group)[-1]
        say(f"{grid}: {counted(len(rows), 'slice')}, originals above; single pictures in {output / group}")


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


def _grid_names(group: str) -> tuple[str, str]:
    """Name the grids of a group: errors, and reconstructions."""
    return f"{group}_{_ERRORS}.png", f"{group}_reconstructions.png"


def _save_pictures(folder: Path, group: str, pairs: list[Pair]) -> None:
    """Write the single pictures of a group, and its grids."""
    for pair in pairs:
        for kind, image in (
            ("original", pair.original),
            ("reconstruction", pair.reconstruction),
            (_ERRORS, pair.error),
        ):
            save_picture(folder / group / f"row{pair.row:06d}_{kind}.png", grid_picture(image[None], columns=1))
    errors, reconstructions = (folder / name for name in _grid_names(group))
    originals, made = (torch.stack(images) for images in zip(*(pair[1:] for pair in pairs), strict=True))
    save_picture(errors, grid_picture(torch.stack([pair.error for pair in pairs]), columns=len(pairs)))
    save_picture(reconstructions, comparison_picture(originals, made))


def _evenly(chosen: Chosen, most: int) -> Chosen:
    """Keep up to ``most`` rows of each group, evenly spaced."""
    return {
        name: rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)] for name, rows in chosen.items()
    }
