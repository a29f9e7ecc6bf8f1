"""The table of the kinds of priors: what a further one takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Self, get_args

import pytest
import torch
from torch import Tensor

from tests.vqvae_dist.models.test_sampling import make_condition
from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.config_pixelcnn import PRIORS, KindOfPrior, PriorKind
from vqvae_dist.models.build import build_pixelcnn
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import Prior


class Uniform(Prior):
    """What somebody may add."""

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size

    @classmethod
    def of(cls, config: PixelCNNModelConfig, *, codebook_size: int, classes: int) -> Self:
        return cls(codebook_size)

    def forward(self, codes: Tensor, condition: Condition, dropout_masks: Tensor | None = None) -> Tensor:
        return torch.zeros(len(codes), self.codebook_size, *codes.shape[1:])


def logits_of(kind: str) -> Tensor:
    config = PixelCNNModelConfig(kind=kind, layers=2, hidden=8, attention=1)
    model = build_pixelcnn(config, codebook_size=5, classes=0).eval()
    logits: Tensor = model(torch.zeros(2, 3, 4, dtype=torch.int64), make_condition(2))
    return logits


def test_the_table_has_the_kinds_that_settings_may_name() -> None:
    assert set(PRIORS) == set(get_args(PriorKind))
    settings = {field.name for field in fields(PixelCNNModelConfig)}
    assert all(kind.uses < settings for kind in PRIORS.values())


@pytest.mark.parametrize("kind", PRIORS)
def test_a_kind_is_built_by_its_settings(kind: PriorKind) -> None:
    torch.manual_seed(0)
    assert logits_of(kind).shape == (2, 5, 3, 4)
    config = PixelCNNModelConfig(kind=kind)
    assert type(build_pixelcnn(config, codebook_size=5, classes=0)).__name__ == PRIORS[kind].prior.partition(":")[2]


def test_an_entry_is_what_a_further_kind_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    further = KindOfPrior(about="every code alike", prior=f"{__name__}:Uniform", uses=frozenset())
    monkeypatch.setitem(PRIORS, "uniform", further)
    assert torch.equal(logits_of("uniform"), torch.zeros(2, 5, 3, 4))
