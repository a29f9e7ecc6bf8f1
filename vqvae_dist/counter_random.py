"""Random numbers as a pure function of counters, so that they depend on no rank, process or batch split.

Both forms are the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"), in numpy for the host and in torch for whole tensors on any device.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB


def keys(seed: int, stream: int, counters: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """One 64-bit key for each of ``counters``; ``stream`` separates uses that share a seed."""
    with np.errstate(over="ignore"):
        # Mixed before counters are added: else seed 1 would give the numbers of seed 0, shifted by one.
        start = _mix(_mix(np.array([seed], np.uint64)) + np.uint64((stream + 1) * _GAMMA & (2**64 - 1)))
        return _mix(start + counters.astype(np.uint64) * np.uint64(_GAMMA)).view(np.int64)


def uniforms(seed: int, stream: int, counters: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), one for each of ``counters``."""
    return (keys(seed, stream, counters).view(np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX2)
    return np.asarray(x ^ (x >> np.uint64(31)))


def cell_uniforms(slice_keys: Tensor, cells: int) -> Tensor:
    """Uniform numbers in (0, 1), float32 (B, cells), from one int64 key a slice (B,)."""
    counters = torch.arange(1, cells + 1, device=slice_keys.device, dtype=torch.int64) * _signed(_GAMMA)
    x = slice_keys[:, None] + counters
    x = (x ^ _shift(x, 30)) * _signed(_MIX1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX2)
    x = x ^ _shift(x, 31)
    return (_shift(x, 41).float() + 0.5) * 2.0**-23  # 23 bits: with 24, the half would round the last one up to 1


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, whose own shift copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
