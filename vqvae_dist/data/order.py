"""Which sample is seen when: a pure function of (seed, step), whatever the number of processes or workers.

A global batch holds one shape. Each shape is an endless stream of seeded permutations; which shape a step takes is
drawn in proportion to the counts. Nothing is ragged or dropped, and a run resumes anywhere by its step alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqvae_dist.counter_random import uniforms

SHAPE_STREAM = 1
"""Stream of ``counter_random`` that draws shapes."""


class StepPlan(NamedTuple):
    """The global batch of one step."""

    shape: int
    """Which shape, by its number."""

    rows: npt.NDArray[np.int64]
    """(batch,) rows among that shape's samples."""

    positions: npt.NDArray[np.int64]
    """(batch,) global positions, counting every sample since step 0; they key all random draws."""


class SampleOrder:
    """The order in which samples of several shapes are seen."""

    def __init__(self, counts: tuple[int, ...], *, seed: int, batch_size: int) -> None:
        """Take ``counts``, the number of samples of each shape; at least one must not be 0."""
        if sum(counts) == 0:
            raise ValueError("no samples to order")
        self.counts, self.seed, self.batch_size = counts, seed, batch_size
        self._shapes = np.zeros(0, np.int64)
        self._permutations: dict[int, tuple[int, npt.NDArray[np.int64]]] = {}

    def at(self, step: int) -> StepPlan:
        """The global batch of step ``step``, from 0."""
        shape = int(self._shape_of_steps(step + 1)[step])
        earlier = int(np.count_nonzero(self._shapes[:step] == shape)) if len(self.counts) > 1 else step
        stream = np.arange(earlier * self.batch_size, (earlier + 1) * self.batch_size)
        epochs, offsets = np.divmod(stream, self.counts[shape])
        rows = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here] = self._permutation(shape, int(epoch))[offsets[here]]
        return StepPlan(shape, rows, np.arange(step * self.batch_size, (step + 1) * self.batch_size))

    def epoch_at(self, step: int) -> float:
        """How often the samples have been seen before step ``step``, on average."""
        return step * self.batch_size / sum(self.counts)

    def _shape_of_steps(self, steps: int) -> npt.NDArray[np.int64]:
        if len(self._shapes) < steps:  # grown by doubling: each step's shape is drawn once
            drawn = uniforms(self.seed, SHAPE_STREAM, np.arange(max(1024, 2 * steps)))
            edges = np.cumsum(self.counts) / sum(self.counts)
            self._shapes = np.searchsorted(edges[:-1], drawn, side="right")
        return self._shapes

    def _permutation(self, shape: int, epoch: int) -> npt.NDArray[np.int64]:
        """The order of one epoch of a shape; the newest of each shape is kept."""
        kept = self._permutations.get(shape)
        if kept is None or kept[0] != epoch:
            order = np.random.default_rng([self.seed, shape, epoch]).permutation(self.counts[shape])
            kept = self._permutations[shape] = (epoch, order)
        return kept[1]
