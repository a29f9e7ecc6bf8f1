"""Settings from dotted keys, for tests of what settings are."""

from __future__ import annotations

from typing import Any, TypedDict

from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose, nest
from vqvae_dist.config_quantizer import QUANTIZERS, Kind

DIGEST = "d" * 64


class Size(TypedDict):
    """Of a codebook."""

    codebook_size: int
    code_dim: int


def make(*layers: dict[str, Any], kind: type[Any] = VQVAEConfig) -> Any:
    """The settings of ``layers``, the last winning."""
    return compose(kind, *(Layer("test", nest(values)) for values in layers))


def size_for(kind: Kind) -> Size:
    """A size that a kind of quantizer can have: 64 codes where it can, as narrow as it can from 3."""
    return next(
        Size(codebook_size=K, code_dim=D)
        for K in (64, *range(2, 257))
        for D in range(3, 65)
        if QUANTIZERS[kind].has_size(K, D)
    )
