"""How an encoder output becomes a code: the kinds of quantizers there are, and their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Annotated, Literal

from vqvae_dist.config_base import (
    MAX_CHANNELS,
    MAX_CODES,
    below_one,
    check,
    config,
    each_described,
    not_negative,
    younger,
)

SHOWN = 4
"""Widths of a code that an error offers."""


@dataclass(frozen=True, kw_only=True)
class QuantizerKind:
    """What is known of a kind of quantizer before it is built."""

    about: str
    """What it is, in a few words for ``--help``."""

    quantizer: str
    """``module:class``, imported when a model is built; its ``of`` makes one from the model's settings."""

    uses: frozenset[str] = frozenset()
    """Settings of ``QuantizerConfig`` that it uses; runs that differ in others alone are the same run."""

    has_size: Callable[[int, int], bool] = lambda K, D: True
    """Whether it can have K codes of width D."""

    sizes: str = ""
    """In words, the K that it can have."""

    collapsed: str = ""
    """What helps when few codes are used, beside fewer codes; ends in ``, or``."""

    def fitting(self, K: int, D: int) -> str:
        """``; fitting: ...``: the D nearest to ``D`` that it can have with ``K`` codes, and the other way round."""
        near = sorted((d for d in range(1, MAX_CHANNELS + 1) if self.has_size(K, d)), key=lambda d: abs(d - D))[:SHOWN]
        widths = [f"model.code_dim {', '.join(map(str, sorted(near)))}"] if near else []
        sizes = [size for size in range(2, MAX_CODES + 1) if self.has_size(size, D)]
        counts = [f"model.codebook_size {min(sizes, key=lambda size: abs(log(size / K)))}"] if sizes else []
        return f"; fitting: {'; or '.join(widths + counts)}" if near or sizes else ""


def levels_of(K: int, D: int) -> int | None:
    """Levels L of each of ``D`` dimensions that make ``K`` = L^D codes; None where no whole number does."""
    levels = round(K ** (1.0 / D))
    return levels if levels >= 2 and levels**D == K else None


CODEBOOK = frozenset({"distance", "decay", "commitment", "init", "init_after", "revive_below", "gradient", "rate"})
"""What the kinds with a codebook that moves use."""

QUANTIZERS: dict[str, QuantizerKind] = {
    "ema": QuantizerKind(
        about="codes are moving averages of their encoder outputs",
        quantizer="vqvae_dist.models.quantizer:Quantizer",
        uses=CODEBOOK,
        collapsed="model.quantizer.revive_below 0.5, init kmeans, decay 0.99, or ",
    ),
    "gradient": QuantizerKind(
        about="codes are trained by the codebook loss",
        quantizer="vqvae_dist.models.quantizer:Quantizer",
        uses=CODEBOOK,
        collapsed="model.quantizer.revive_below 0.5, init kmeans, or ",
    ),
    "fsq": QuantizerKind(
        about="finite scalar quantization, a fixed grid, for which the settings below change nothing",
        quantizer="vqvae_dist.models.fsq:FSQ",
        has_size=lambda K, D: levels_of(K, D) is not None,
        sizes="levels to the power of model.code_dim, as 8^3 = 512,",
    ),
}
"""A further kind is a module with its class, and an entry here."""

if TYPE_CHECKING:
    Kind = str
else:  # what settings may hold, and ``--help`` and completions list
    Kind = Literal[tuple(QUANTIZERS)]


@config
class QuantizerConfig:
    """How an encoder output becomes a code."""

    kind: Annotated[Kind, each_described(QUANTIZERS)] = "ema"
    """One of ``QUANTIZERS``."""

    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Which code counts as nearest."""

    decay: float = 0.99
    """Of the moving averages of code counts, and with kind ``ema`` of sums, per optimizer step."""

    commitment: float = 0.25
    """Weight of the term that pulls encoder outputs to their codes."""

    init: Literal["kmeans", "data", "normal"] = "kmeans"
    """First codes: k-means of encoder outputs, a draw of encoder outputs, or Gaussian noise."""

    init_after: int = 0
    """Optimizer steps trained without quantization before the codebook is initialised from data."""

    revive_below: float = 0.5
    """A code whose averaged count a step falls under this is moved to a badly quantized encoder output; 0 never."""

    gradient: Literal["straight_through", "rotation"] = "straight_through"
    """How the decoder's gradient passes the quantizer."""

    rate: float = younger(default=0.0)
    """What a bit of a code's length weighs when a code is chosen, in mean squared distances; 0 takes the nearest."""

    def __post_init__(self) -> None:
        below_one("model.quantizer.decay", self.decay)
        not_negative("model.quantizer.commitment", self.commitment)
        not_negative("model.quantizer.init_after", self.init_after)
        not_negative("model.quantizer.revive_below", self.revive_below)
        not_negative("model.quantizer.rate", self.rate)
        check(
            not (self.init == "normal" and self.init_after),
            "model.quantizer.init_after",
            self.init_after,
            "0 with model.quantizer.init normal",
        )
