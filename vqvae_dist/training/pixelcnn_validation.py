"""Scores and pictures of held-out code maps during the training of a prior."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vqvae_dist.config import PixelCNNConfig
from vqvae_dist.data.code_batches import CodesBatch, labelled, split_codes
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import Prior, code_nll
from vqvae_dist.models.sampling import sample
from vqvae_dist.pictures import Picture, grid_picture
from vqvae_dist.training.runtime import Runtime

BATCH = 8
"""Code maps scored at once, at most."""

PICTURED = 8
"""Code maps in each picture, the same ones throughout."""


class PixelCNNValidation:
    """The validate split of a prior's training."""

    def __init__(self, config: PixelCNNConfig, runtime: Runtime, reader: CodesReader) -> None:
        self.config, self.runtime, self.reader = config, runtime, reader

    def scores(self, model: Prior) -> dict[str, float | None]:
        """Mean bits a code over the split, in all and by ground; empty without codes. Every process calls it."""
        sums = torch.zeros(2, 2, dtype=torch.float64)  # (background, foreground) x (nats, cells)
        batches = split_codes(
            self.reader,
            self.config.data.validate_split,
            batch_size=BATCH,
            rank=self.runtime.rank,
            processes=self.runtime.processes,
        )
        for batch, foreground in batches:
            nll = self._nll(model, batch)[1].double().cpu()
            for ground, cells in enumerate((~foreground, foreground)):
                sums[ground] += torch.tensor([nll[cells].sum(), cells.sum()], dtype=torch.float64)
        background, inside = self.runtime.sum(sums.to(self.runtime.device)).cpu().numpy()
        if background[1] + inside[1] == 0:
            return {}
        return {
            "bits_per_code": bits_per_code(background + inside),
            "bits_per_code_foreground": bits_per_code(inside),
            "bits_per_code_background": bits_per_code(background),
        }

    def picture(self, model: Prior) -> Picture:
        """Some code maps above what the prior expected at each cell given those before it, above its surprise.

        Codes are shown by the mean image under each; surprise is the bits of each code over those of a uniform draw.
        """
        patches = torch.from_numpy(self.reader.patches)
        rows = [self._rows_of_picture(model, batch, patches) for batch in self._pictured()]
        return grid_picture(torch.cat([torch.cat(row) for row in zip(*rows, strict=True)]), columns=len(rows))

    def samples(self, model: Prior, *, seed: int) -> Picture:
        """New code maps of the most frequent grid, from the first slice of a volume to the last."""
        group = max(self.reader.groups, key=lambda group: group.count)
        nothing = torch.zeros(PICTURED, dtype=torch.int64)
        condition = Condition(torch.linspace(0, 1, PICTURED), nothing - 1, nothing.float())
        codes = sample(model, grid=group.grid, condition=condition, seed=seed)
        return grid_picture(tiled(torch.from_numpy(self.reader.patches)[codes]), columns=PICTURED)

    def _rows_of_picture(self, model: Prior, batch: CodesBatch, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, nll = self._nll(model, batch)
        expected = torch.einsum("bkhw,kyx->bhwyx", logits.float().softmax(dim=1).cpu(), patches)
        surprise = nll.float().cpu() / math.log(self.reader.codebook_size)
        blocks = surprise[..., None, None].expand_as(expected)
        return tiled(patches[batch.codes]), tiled(expected), tiled(blocks)

    def _nll(self, model: Prior, batch: CodesBatch) -> tuple[Tensor, Tensor]:
        codes, position, label, flipped = (tensor.to(self.runtime.device) for tensor in batch[:4])
        logits = model(codes, Condition(position, label, flipped))
        return logits, code_nll(logits, codes)

    def _pictured(self) -> Iterator[CodesBatch]:
        """Single code maps spread evenly over the most frequent grid, of training slices where none are held out."""
        for split in (self.config.data.validate_split, self.config.data.train_split):
            found = [(group, self.reader.rows(group.name, split, views=False)) for group in self.reader.groups]
            group, rows = max(found, key=lambda item: len(item[1]))
            if len(rows):
                chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURED, len(rows))).astype(int)]
                for row in chosen[:, None]:
                    codes = self.reader.codes(group.name, row)
                    yield labelled(self.reader, group, row, codes, torch.zeros(1, dtype=torch.int64))
                return


def bits_per_code(sums: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float | None:
    """Bits a code from (nats, cells); None without cells."""
    return float(sums[0] / sums[1] / math.log(2)) if sums[1] else None


def tiled(patches: Tensor) -> Tensor:
    """Lay the patches (B, h, w, d, d) of each map's cells out as images (B, 1, h * d, w * d)."""
    B, h, w, d, _ = patches.shape
    return patches.permute(0, 1, 3, 2, 4).reshape(B, 1, h * d, w * d)
