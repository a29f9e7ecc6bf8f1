"""How a codebook is used, over all cells of an epoch or a split and inside the head.

Per-batch perplexity misleads, and so does a perplexity that background dominates; so counts are summed over
everything first and the foreground is counted apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CodebookUse(NamedTuple):
    """The use of a codebook of K codes; None where there was nothing to count."""

    usage: float
    """Share of the K codes that occur at all, 0..1."""
    perplexity: float | None
    """exp(entropy) of the codes' frequencies over all cells: the effective number of codes, 1..K."""
    perplexity_foreground: float | None
    """The same over foreground cells alone."""
    foreground_share: float | None
    """Share of all cells that are foreground cells, 0..1."""
    background_codes: float | None
    """Share of the codes in use that occur more often outside the head than inside, 0..1."""


def codebook_use(counts: NDArray[np.integer], foreground_counts: NDArray[np.integer]) -> CodebookUse:
    """Describe the use of a codebook from how often each code occurred, (K,), in all and in foreground cells."""
    used = counts > 0
    cells = int(counts.sum())
    outside_more_often = used & (2 * foreground_counts < counts)
    return CodebookUse(
        usage=float(used.mean()),
        perplexity=perplexity(counts),
        perplexity_foreground=perplexity(foreground_counts),
        foreground_share=float(foreground_counts.sum() / cells) if cells else None,
        background_codes=float(outside_more_often.sum() / used.sum()) if cells else None,
    )


def perplexity(counts: NDArray[np.integer]) -> float | None:
    """Give exp(entropy) of the distribution that counts (K,) describe; None where all are 0."""
    total = counts.sum()
    if total == 0:
        return None
    p = counts[counts > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def foreground_cells(mask: NDArray[np.bool_], downsample: int) -> NDArray[np.bool_]:
    """Mark the code cells whose block of pixels contains any foreground.

    mask (H, W) of true pixels -> (ceil(H / f), ceil(W / f)) with f = ``downsample``: cell (i, j) stands for rows
    i·f … i·f+f-1 and columns j·f … j·f+f-1. Padding lies right and below and is never foreground.
    """
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % downsample), (0, -width % downsample)))
    rows, columns = padded.shape[0] // downsample, padded.shape[1] // downsample
    blocks = padded.reshape(rows, downsample, columns, downsample)
    return np.asarray(blocks.any(axis=(1, 3)))
