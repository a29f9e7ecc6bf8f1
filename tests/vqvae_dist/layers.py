"""Settings from dotted keys, for tests of what settings are."""

from __future__ import annotations

from typing import Any

from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose, nest

DIGEST = "d" * 64


def make(*layers: dict[str, Any], kind: type[Any] = VQVAEConfig) -> Any:
    """The settings of ``layers``, the last winning."""
    return compose(kind, *(Layer("test", nest(values)) for values in layers))
