"""The table of quantizers: every kind is built from the settings, and one more entry is one more kind."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest
import torch

from tests.vqvae_dist.layers import size_for
from vqvae_dist.config import QuantizerConfig, VQVAEModelConfig
from vqvae_dist.config_quantizer import QUANTIZERS, Kind, QuantizerKind
from vqvae_dist.models.build import build_quantizer
from vqvae_dist.models.quantizer import Quantizer


class Halves(Quantizer):
    """What somebody may add."""


def test_the_table_has_the_kinds_that_settings_may_name() -> None:
    assert set(QUANTIZERS) == set(get_args(Kind))
    settings = {field.name for field in fields(QuantizerConfig)}
    assert all(kind.uses < settings for kind in QUANTIZERS.values())


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_kind_is_built_by_its_settings(kind: Kind) -> None:
    config = VQVAEModelConfig(quantizer=QuantizerConfig(kind=kind, init="normal"), **size_for(kind))
    quantizer = build_quantizer(config)
    assert (quantizer.kind, quantizer.K, quantizer.D) == (kind, config.codebook_size, config.code_dim)
    assert quantizer(torch.randn(1, config.code_dim, 4, 4)).codes.shape == (1, 4, 4)


def test_an_entry_is_what_a_further_kind_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    further = QuantizerKind(
        about="half as wide as it has codes",
        quantizer=f"{__name__}:Halves",
        has_size=lambda K, D: K == 2 * D,
        sizes="twice model.code_dim",
    )
    monkeypatch.setitem(QUANTIZERS, "halves", further)
    chosen = QuantizerConfig(kind="halves")
    assert isinstance(build_quantizer(VQVAEModelConfig(quantizer=chosen, codebook_size=6, code_dim=3)), Halves)
    expected = r"model\.codebook_size must be twice model\.code_dim with model\.quantizer\.kind halves, got 64 with"
    with pytest.raises(ValueError, match=expected + " .* 3; fitting: model.code_dim 32; or model.codebook_size 6$"):
        VQVAEModelConfig(quantizer=chosen, codebook_size=64, code_dim=3)


@pytest.mark.parametrize(
    ("K", "D", "fitting"),
    [
        (64, 16, "; fitting: model.code_dim 1, 2, 3, 6; or model.codebook_size 65536"),
        (500, 3, "; fitting: model.code_dim 1; or model.codebook_size 512"),
        (4096, 64, "; fitting: model.code_dim 3, 4, 6, 12"),
    ],
)
def test_sizes_that_fit_are_offered(K: int, D: int, fitting: str) -> None:
    with pytest.raises(ValueError, match=r"model\.codebook_size must be levels to the power") as refusal:
        VQVAEModelConfig(quantizer=QuantizerConfig(kind="fsq"), codebook_size=K, code_dim=D)
    assert str(refusal.value).endswith(f"got {K} with model.code_dim {D}{fitting}")
