"""State of a training for tests of checkpoints and exports, and damage to its files."""

from __future__ import annotations

from pathlib import Path

import torch

VALUES = {"progress": {"step": 0}, "scaler": {}}
"""What a checkpoint holds beside tensors."""


def parts_of(step: int, *, size: int = 100) -> dict[str, dict[str, torch.Tensor]]:
    """Weights and optimizer state that tell their step."""
    return {"model": {"weight": torch.full((size,), float(step))}, "optimizer": {"0.step": torch.tensor(float(step))}}


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
