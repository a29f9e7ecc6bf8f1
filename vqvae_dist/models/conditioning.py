"""What the prior knows beside the codes: the slice's position, class and mirroring, and each cell's place."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OCTAVES = 6
"""Waves of 1/2, 1, 2, ... 16 periods over the range: the finest tells neighbours in a row of 72 cells apart."""


class Condition(NamedTuple):
    """The conditions of B code maps."""

    position: Tensor
    """(B,) float: where the slice lies within its volume, 0..1."""

    label: Tensor
    """(B,) int64: the class, -1 where there is none."""

    flipped: Tensor
    """(B,) float: 1 for a mirrored view, 0 for the slice as it is."""

    def to(self, device: torch.device) -> Condition:
        """Give the same conditions on another device."""
        return Condition(*(tensor.to(device) for tensor in self))


def fourier_features(values: Tensor) -> Tensor:
    """Describe ``values`` (...) in -1..1 by themselves and by waves, (..., 1 + 2 * OCTAVES)."""
    angles = values.unsqueeze(-1) * (math.pi / 2) * 2.0 ** torch.arange(OCTAVES, device=values.device)
    return torch.cat([values.unsqueeze(-1), angles.sin(), angles.cos()], dim=-1)


class ConditionGates(nn.Module):
    """What position, class and mirroring add to the gates of the stacks, ``Condition -> (B, layers, gates)``.

    A condition that is off has no parameters.
    """

    def __init__(self, *, layers: int, gates: int, hidden: int, position: bool, classes: int, flipped: bool) -> None:
        super().__init__()
        self.layers, self.position, self.classes, self.flipped = layers, position, classes, flipped
        features = (1 + 2 * OCTAVES) * position + classes + flipped
        self.describe = nn.Linear(features, hidden)
        self.open = nn.Linear(hidden, layers * gates, bias=False)

    def forward(self, condition: Condition) -> Tensor:
        """Give the gate offsets, (B, layers, gates)."""
        features = []
        if self.position:
            features.append(fourier_features(2 * condition.position - 1))
        if self.classes:
            known = (condition.label >= 0).unsqueeze(-1)
            features.append(F.one_hot(condition.label.clamp(min=0), self.classes) * known)
        if self.flipped:
            features.append(condition.flipped.unsqueeze(-1))
        described = self.describe(torch.cat([f.to(self.describe.weight.dtype) for f in features], dim=-1))
        offsets: Tensor = self.open(F.silu(described))
        return offsets.view(len(offsets), self.layers, -1)


class Coordinates(nn.Module):
    """What a cell's absolute place in the grid adds to its features: ``(h, w) -> (1, C, h, w)``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * (1 + 2 * OCTAVES), hidden, bias=False)

    def forward(self, h: int, w: int) -> Tensor:
        """Give the features of every cell of an ``h`` x ``w`` grid."""
        weight = self.project.weight
        rows, columns = (
            fourier_features((2 * torch.arange(n, device=weight.device, dtype=weight.dtype) + 1) / n - 1)
            for n in (h, w)
        )
        places = torch.cat([rows[:, None].expand(h, w, -1), columns[None].expand(h, w, -1)], dim=-1)
        features: Tensor = self.project(places)
        return features.permute(2, 0, 1).unsqueeze(0)
