"""A checksum at the speed of memory, by which a process knows again what it has read before: ``word_checksum``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_PIECE = 1 << 14
"""Words that are summed at once: they, their mixture and the weights stay in the cache."""

_ODD = np.random.default_rng(0).integers(2**64, size=_PIECE + 1, dtype=np.uint64) | np.uint64(1)
_WEIGHTS, _STEP = _ODD[:-1], int(_ODD[-1])
_MIX = np.uint64(29)
_MASK = 2**64 - 1


def word_checksum(data: npt.NDArray[Any]) -> int:
    """Return 64 bits for contiguous ``data``; for one process to compare with itself, not to be stored.

    The sum of the words, each times its own odd weight, modulo 2^64 (multilinear hashing). A change within one word
    always alters it. Other changes slip through with about 2^-64, or 2^-29 if they are of the highest bits alone:
    each word is first mixed with its own high bits, as a multiple of 2^63 sees only the last bit of its weight.
    """
    raw = data.reshape(-1).view(np.uint8)
    tail = len(raw) % 8
    words = raw[: len(raw) - tail].view(np.uint64)
    total = len(raw)
    for start in range(0, len(words), _PIECE):
        piece = words[start : start + _PIECE]
        mixed = piece >> _MIX
        mixed ^= piece
        total = (total * _STEP + int(np.dot(mixed, _WEIGHTS[: len(mixed)]))) & _MASK
    return (total * _STEP + int.from_bytes(raw[len(raw) - tail :].tobytes(), "little")) & _MASK
