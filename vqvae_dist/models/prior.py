"""What training, evaluation and sampling ask of a prior: a distribution of code maps, cell by cell in raster order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.models.conditioning import Condition


class CellSampler(Protocol):
    """Takes the codes one by one: ``start_row``, then ``logits`` and ``accept`` for each of its cells."""

    def start_row(self, above: Tensor | None) -> None:
        """Begin the next row; ``above`` (B, w) are the codes of the row before, None for the first."""

    def logits(self) -> Tensor:
        """Give the logits (B, K) of the next cell."""

    def accept(self, codes: Tensor) -> None:
        """Take the codes (B,) of the cell whose logits were given last."""


class Prior(nn.Module):
    """The distribution of each code given the earlier ones. ``of`` and ``forward`` are all that a further one needs."""

    recompute = False
    """Whether to recompute activations in the backward pass instead of keeping them; a prior may ignore it."""

    @classmethod
    def of(cls, config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> Self:
        """Give an untrained one by its settings, over ``codebook_size`` codes; ``classes`` are the training codes'."""
        raise NotImplementedError

    def forward(self, codes: Tensor, condition: Condition, dropout_masks: Tensor | None = None) -> Tensor:
        """Give the logits of every cell's code, (B, K, h, w), in float32 or wider.

        Args:
            codes: (B, h, w) int64; the logits of a cell never depend on its own code or a later one.
            condition: of the B code maps; parts that the model is not conditioned on are ignored.
            dropout_masks: what ``dropout_masks`` gave, while training.
        """
        raise NotImplementedError

    def dropout_masks(self, keys: Tensor) -> Tensor | None:
        """Give the dropout masks that follow from one int64 key a sample (B,); None without dropout.

        An input of ``forward``, so that they follow from the place of a sample in the training and not from the
        process that has it.
        """
        return None

    def compiled_parts(self) -> Sequence[nn.Module]:
        """Give the modules that are compiled, each by itself, where a training compiles."""
        return []

    def sampler(self, grid: tuple[int, int], condition: Condition) -> CellSampler:
        """Give a sampler of code maps (h, w) for the B conditions; here one that costs a forward pass a cell."""
        return WholePasses(self, grid, condition)


class WholePasses:
    """A sampler for any prior: a whole forward pass for each cell."""

    def __init__(self, model: Prior, grid: tuple[int, int], condition: Condition) -> None:
        self.model = model
        device = next(model.parameters()).device
        self.condition = condition.to(device)
        self.codes = torch.zeros(len(condition.position), *grid, dtype=torch.int64, device=device)
        self.row, self.column = -1, 0

    def start_row(self, above: Tensor | None) -> None:
        """Begin the next row; the codes above are known already."""
        self.row, self.column = self.row + 1, 0

    def logits(self) -> Tensor:
        """Give the logits (B, K) of the next cell."""
        found: Tensor = self.model(self.codes, self.condition)
        return found[:, :, self.row, self.column]

    def accept(self, codes: Tensor) -> None:
        """Take the codes (B,) of the cell."""
        self.codes[:, self.row, self.column] = codes
        self.column += 1


def code_nll(logits: Tensor, codes: Tensor) -> Tensor:
    """Give the negative log-likelihood of each code in nats, (B, h, w), from logits (B, K, h, w).

    Through log_softmax: a code at -120 logits has a finite value, where log(softmax) gives infinity.
    """
    return F.cross_entropy(logits, codes, reduction="none")
