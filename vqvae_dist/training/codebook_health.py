"""Whether a codebook is used: what each step logs, how much of it an epoch used, and a word when it has collapsed.

Everything comes from statistics summed over all ranks, so every rank has the same figures. A collapse looks fine in
the loss: three quarters of a slice are background, which a few codes serve well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vqvae_dist.config_quantizer import QUANTIZERS
from vqvae_dist.data.order import SampleOrder
from vqvae_dist.models.quantizer import CodeStatistics, Quantizer

COLLAPSED = 0.5
"""An epoch that uses a smaller share of the codes is announced as a collapse."""

JUDGED_CELLS = 16
"""Cells for each code that an epoch must have to be judged: a few slices cannot use a large codebook."""

SETTLED = 2.0
"""Memories of the moving averages, 1 / (1 - decay) steps each, after which an epoch is judged: before, revival has not
begun and the encoder moves fast."""

IDLE = 0.01
"""Averaged count below which a code counts as dead where codes are never revived: one cell in a hundred steps."""

RUNAWAY = 3.0
"""A code is a runaway beyond this many times the distance of the farthest encoder outputs from their mean."""


class Health(NamedTuple):
    """What a step says of the codebook."""

    values: dict[str, float]
    """train/ metrics."""
    warning: str
    """What has to be said aloud; mostly empty."""


class CodebookHealth:
    """Follows a codebook through the training; ``memory`` is what a checkpoint keeps of it."""

    def __init__(self, quantizer: Quantizer, order: SampleOrder) -> None:
        self.quantizer, self.order = quantizer, order
        self.memory = {
            "counts": torch.zeros(quantizer.K, dtype=torch.float64),  # of this epoch
            "updates": torch.tensor(0.0, dtype=torch.float64),
            "used": torch.tensor(-1.0, dtype=torch.float64),  # share in the last whole epoch; -1 before there is one
            "collapsed": torch.tensor(0.0, dtype=torch.float64),
        }

    def after(self, step: int, statistics: CodeStatistics) -> Health:
        """Take in what step ``step`` saw, after the codebook's update."""
        cells = statistics.counts.sum().clamp_min(1.0)
        figures = {"quantization_error": statistics.error / cells, "codes_dead": self._dead()}
        if not self.quantizer.fixed:
            figures["codes_runaway"] = runaways(self.quantizer, statistics)
        on_host = torch.stack([figure.double() for figure in figures.values()]).tolist()
        values = dict(zip(figures, on_host, strict=True))
        self.memory["counts"] += statistics.counts.double().cpu()
        self.memory["updates"] += 1
        warning = ""
        if int(self.order.epoch_at(step + 1)) > int(self.order.epoch_at(step)):
            warning = self._close_epoch(step)
        if self.memory["used"] >= 0:
            values["codes_used_epoch"] = self.memory["used"].item()
        return Health(values, warning)

    def _dead(self) -> Tensor:
        return (self.quantizer.counts < (self.quantizer.revive_below or IDLE)).sum()

    def _settled(self) -> bool:
        return self.memory["updates"].item() * (1.0 - self.quantizer.decay) >= SETTLED

    def _close_epoch(self, step: int) -> str:
        counts, was_collapsed = self.memory["counts"], bool(self.memory["collapsed"])
        used = (counts > 0).double().mean()
        judged = self._settled() and bool(counts.sum() >= JUDGED_CELLS * len(counts))
        collapsed = judged and bool(used < COLLAPSED)
        self.memory["used"].copy_(used)
        self.memory["collapsed"].fill_(float(collapsed))
        number = int((counts > 0).sum())
        counts.zero_()
        if not collapsed or was_collapsed:
            return ""
        return (
            f"step {step + 1}: the codebook has collapsed: only {number} of {len(counts)} codes were used in the last "
            f"epoch; try {QUANTIZERS[self.quantizer.kind].collapsed}a smaller model.codebook_size"
        )


def runaways(quantizer: Quantizer, statistics: CodeStatistics) -> Tensor:
    """Count the codes far out of the encoder outputs' reach, where no output will ever find them: () tensor."""
    counts, cells = statistics.counts, statistics.counts.sum().clamp_min(1.0)
    centre = statistics.sums.sum(0) / cells
    used = counts > 0
    means = statistics.sums / counts.clamp_min(1.0)[:, None]
    farthest = torch.where(used, (means - centre).square().sum(1), 0.0).amax()
    reach = farthest + statistics.error / cells  # of a cluster's mean, and of outputs around it; squared
    distances = (quantizer.weight.detach() - centre).square().sum(1)
    return (distances > RUNAWAY**2 * reach).sum()
