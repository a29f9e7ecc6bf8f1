"""A further prior is its ``forward`` alone: the suite trains it, charges it, and draws from it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.suite import command, flags
from tests.trainings import settings_of
from tests.vqvae_dist.models.test_sampling import make_condition, make_model, sample_naively
from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.config_io import flatten
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import Prior, WholePasses
from vqvae_dist.models.sampling import sample
from vqvae_dist.run_folder import RunFolder


class Neighbours(Prior):
    """A code follows from its left neighbour and the one above."""

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.left = nn.Embedding(codebook_size, codebook_size)
        self.above = nn.Embedding(codebook_size, codebook_size)

    def forward(self, codes: Tensor, condition: Condition, dropout_masks: Tensor | None = None) -> Tensor:
        left = F.pad(self.left(codes).permute(0, 3, 1, 2), (1, -1, 0, 0))
        above = F.pad(self.above(codes).permute(0, 3, 1, 2), (0, 0, 1, -1))
        return left + above


def build_pixelcnn(config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> Prior:
    return Neighbours(codebook_size)


def test_a_further_prior_is_trained_and_drawn_from(codes: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    settings = settings_of("train-pixelcnn", codes, run.path, {"schedule.steps": 30, "optim.lr": 0.05})
    command("train-pixelcnn", *flags(flatten(settings)), builder=build_pixelcnn)
    rows = run.read_metrics()
    assert rows[-1]["train/bits_per_code"] < 0.8 * rows[0]["train/bits_per_code"]
    summary = run.read_summary() or {}
    assert summary["pictures"], "its samples were drawn"


def test_a_pass_for_each_cell_draws_what_the_caches_draw() -> None:
    model, condition = make_model(torch.float64).eval(), make_condition(2)
    naive = sample_naively(model, grid=(5, 6), condition=condition, seed=3)
    assert torch.equal(sample(model, grid=(5, 6), condition=condition, seed=3), naive)
    model.sampler = lambda grid, condition: WholePasses(model, grid, condition)  # type: ignore[method-assign]  # of this one alone
    assert torch.equal(sample(model, grid=(5, 6), condition=condition, seed=3), naive)
