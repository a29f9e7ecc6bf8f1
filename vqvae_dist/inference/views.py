"""Views of a slice: small changes under which it stays a plausible slice, so that a prior sees more anatomies.

Shifted by whole pixels, mirrored, or of a slightly other contrast; never rotated or scaled, which would interpolate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqvae_dist.counter_random import uniforms

MAX_SHIFT = 8
"""Pixels, up, down, left or right."""

GAMMA = 0.1
"""The exponent of the intensities lies within 1 - GAMMA and 1 + GAMMA."""

VIEW_STREAM = 16
"""First stream of ``counter_random`` that draws views; a group of slices takes one each."""

DRAWS = 4
"""Random numbers a view."""

Image = npt.NDArray[np.float32]


class View(NamedTuple):
    """How a slice is changed."""

    down: int = 0
    right: int = 0
    gamma: float = 1.0
    flipped: bool = False

    def of(self, image: Image) -> Image:
        """The view of an image (H, W) on [0, 1]; what a shift uncovers repeats the border."""
        if self == View():
            return image
        H, W = image.shape
        if self.flipped:
            image = image[:, ::-1]
        rows = np.clip(np.arange(H) - self.down, 0, H - 1)
        columns = np.clip(np.arange(W) - self.right, 0, W - 1)
        return np.asarray(image[np.ix_(rows, columns)] ** np.float32(self.gamma))


def drawn_view(seed: int, group: int, row: int, number: int, views: int) -> View:
    """View ``number`` of ``views`` of a slice, number 0 the slice as it is; follows from the arguments alone."""
    if number == 0:
        return View()
    counters = DRAWS * (row * views + number) + np.arange(DRAWS)
    u = uniforms(seed, VIEW_STREAM + group, counters)
    down, right = (int(draw * (2 * MAX_SHIFT + 1)) - MAX_SHIFT for draw in u[:2])
    return View(down, right, float(1 + GAMMA * (2 * u[2] - 1)), bool(u[3] < 0.5))
