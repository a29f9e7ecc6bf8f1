"""What codes cost, in bits: flat, under a histogram, under a fixed context model, and under a trained prior.

Every model is fitted on training codes and charged on others; the charged split's own entropy is never used, since
nobody who has to decode it knows it. Costs are given per code, and per true pixel: the cost of the cells that lie over
padding is counted, its pixels are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.integer]
Bits = NDArray[np.float64]

STRENGTH = 50
"""Of the shorter context: it weighs as much as this many observations. Near the best for K = 64, 512 and 4096."""

_MERGE_AT = 4_000_000  # keys collected before they are counted


def bits_per_pixel(bits: float, pixels: int) -> float:
    """Spread a total cost over the true pixels (H × W summed over the slices)."""
    return bits / pixels


def nominal_bits(cells: int, codebook_size: int) -> float:
    """Give the cost of ``cells`` codes stored flat: log2 K each."""
    return cells * math.log2(codebook_size)


def unigram_bits(counts: NDArray[np.integer]) -> Bits:
    """Give the cost in bits of each code (K,) under the training histogram (K,) + 1/2 (Krichevsky–Trofimov).

    The half gives a finite cost to codes that never occurred in training.
    """
    return np.asarray(-np.log2((counts + 0.5) / (counts.sum() + 0.5 * counts.size)))


class ContextModel:
    """Codes predicted from the code to the left and the code above, by counts of the training codes.

    Beyond the top and left border stands one more symbol, K. The counts are smoothed by interpolation with a shorter
    context, which counts as ``STRENGTH`` observations (a Dirichlet prior; MacKay and Peto 1995):

        p(c | context) = (count(context, c) + s · shorter(c)) / (count(context) + s)

        p2(c | left, above)  shorter is  the average of p1(c | left) and p1(c | above)
        p1(c | left), p1(c | above)  shorter is  p0(c) = (count(c) + 1/2) / (cells + K/2)

    Every code has a positive probability, and they sum to 1. Nothing is fitted but the counts. Only triples that occur
    are stored, so memory grows with the different triples of the training codes, not with K³.
    """

    def __init__(self, codebook_size: int) -> None:
        self.codebook_size = codebook_size
        self.counts = np.zeros(codebook_size, dtype=np.int64)
        """(K,): the training histogram."""
        self._left, self._above, self._both = (_ContextCounts(codebook_size) for _ in range(3))

    @classmethod
    def fit(cls, batches: Iterable[Codes], codebook_size: int) -> ContextModel:
        """Count batches of training code maps (N, h, w); the grids may differ from batch to batch."""
        model = cls(codebook_size)
        for codes in batches:
            model.add(codes)
        return model

    def add(self, codes: Codes) -> None:
        """Count one more batch of training code maps (N, h, w)."""
        left, above, both, code = self._contexts(codes)
        self.counts += np.bincount(code.ravel(), minlength=self.codebook_size)
        self._left.add(left, code)
        self._above.add(above, code)
        self._both.add(both, code)

    def bits(self, codes: Codes) -> Bits:
        """Give the cost in bits of every cell of code maps (N, h, w), as (N, h, w)."""
        left, above, both, code = self._contexts(codes)
        p0 = ((self.counts + 0.5) / (self.counts.sum() + 0.5 * self.codebook_size))[code]
        p1 = (self._left.probability(left, code, p0) + self._above.probability(above, code, p0)) / 2
        return np.asarray(-np.log2(self._both.probability(both, code, p1)))

    def _contexts(self, codes: Codes) -> tuple[Codes, Codes, Codes, Codes]:
        """Number the contexts of every cell: left, above, the pair of them; and the code itself."""
        K = self.codebook_size
        code = codes.astype(np.int64)
        left = np.pad(code, ((0, 0), (0, 0), (1, 0)), constant_values=K)[:, :, :-1]
        above = np.pad(code, ((0, 0), (1, 0), (0, 0)), constant_values=K)[:, :-1]
        return left, above, left * (K + 1) + above, code


class _ContextCounts:
    """How often each code followed each context; sparse, sorted, counted in portions."""

    def __init__(self, codebook_size: int) -> None:
        self.codebook_size = codebook_size
        self._pending: list[Codes] = []
        self._pairs = _Histogram()
        self._totals = _Histogram()

    def add(self, context: Codes, code: Codes) -> None:
        # A context is below (K + 1)² and a code below K, so for K = 65536 a pair is still below 2^49.
        self._pending.append((context * self.codebook_size + code).ravel())
        if sum(keys.size for keys in self._pending) >= _MERGE_AT:
            self._count()

    def probability(self, context: Codes, code: Codes, shorter: Bits) -> Bits:
        """Give p(code | context), interpolated with ``shorter``, the probability under a shorter context."""
        self._count()
        seen = self._pairs[context * self.codebook_size + code]
        return np.asarray((seen + STRENGTH * shorter) / (self._totals[context] + STRENGTH))

    def _count(self) -> None:
        if not self._pending:
            return
        self._pairs.add(*np.unique(np.concatenate(self._pending), return_counts=True))
        self._pending.clear()
        contexts = self._pairs.keys // self.codebook_size
        starts = np.flatnonzero(np.diff(contexts, prepend=-1))  # sorted by context first
        self._totals = _Histogram(contexts[starts], np.add.reduceat(self._pairs.values, starts))


class _Histogram:
    """Counts of integers, as sorted keys and their values; 0 for any other key."""

    def __init__(self, keys: Codes | None = None, values: Codes | None = None) -> None:
        self.keys = np.empty(0, dtype=np.int64) if keys is None else keys
        self.values = np.empty(0, dtype=np.int64) if values is None else values

    def add(self, keys: Codes, values: Codes) -> None:
        self.keys, inverse = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        self.values = np.bincount(inverse, weights=np.concatenate([self.values, values])).astype(np.int64)

    def __getitem__(self, keys: Codes) -> Codes:
        if not self.keys.size:
            return np.zeros_like(keys)
        place = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        return np.where(self.keys[place] == keys, self.values[place], 0)
