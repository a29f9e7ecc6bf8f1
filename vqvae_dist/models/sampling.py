"""Drawing code maps from a prior, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.draw import Filter, draw_codes, uniform_numbers
from vqvae_dist.models.prior import Prior


@torch.inference_mode()
def sample(
    model: Prior,
    *,
    grid: tuple[int, int],
    condition: Condition,
    seed: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    first_sample: int = 0,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Tensor:
    """Draw code maps (B, h, w), int64 on the CPU, for the B conditions.

    Sample ``first_sample + i`` depends on the seed, its number and its condition, not on the others of the batch.

    Args:
        model: the prior; it works where its weights are, in their precision.
        grid: (h, w), any shape.
        condition: of the samples; the first one has the number ``first_sample``.
        seed: together with a sample's number fixes its random draws.
        temperature: > 0, divides the logits.
        top_k: draw among the k likeliest codes; 0 = all.
        top_p: draw among the likeliest codes that hold this share of the probability, 0 < p <= 1.
        first_sample: number of the first sample, so that many can be drawn in batches.
        progress: wraps the range of rows to show how far it is.
    """
    h, w = grid
    batch = len(condition.position)
    cells = model.sampler(grid, condition)
    device = next(model.parameters()).device
    uniform = uniform_numbers(seed, range(first_sample, first_sample + batch), h * w).to(device)
    codes = torch.zeros(batch, h, w, dtype=torch.int64, device=device)
    for row in progress(range(h)):
        cells.start_row(codes[:, row - 1] if row else None)
        for column in range(w):
            numbers = uniform[:, row * w + column]
            codes[:, row, column] = draw_codes(cells.logits(), numbers, Filter(temperature, top_k, top_p))
            cells.accept(codes[:, row, column])
    return codes.cpu()
