"""Vector quantization (van den Oord et al. 2017) whose forward pass changes nothing.

``Quantizer.forward`` returns codes and statistics; ``update`` applies initialisation, moving averages and revival
once an optimizer step, from statistics summed over micro-batches and ranks. So accumulation, recomputation and
skipped steps all leave the same codebook.

With ``rate`` it is entropy-constrained (Chou, Lookabaugh, Gray 1989): of two codes that are about as near, the more
frequent one is taken, which costs fewer bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvae_dist.config import VQVAEModelConfig
from vqvae_dist.config_quantizer import Kind
from vqvae_dist.counter_random import cell_uniforms
from vqvae_dist.models.gradients import GRADIENTS
from vqvae_dist.models.kmeans import kmeans
from vqvae_dist.models.nearest import code_sums, nearest

REVIVALS = 64
"""Most codes revived a step: what a rank offers as new places, and sends to the others."""

UNSEEN = 0.01
"""Positions a step that a code's length counts beside those that chose it, so that no code is out of reach."""

SAMPLES = 32768
"""About as many encoder outputs of the global batch initialise the codebook."""


class CodeStatistics(NamedTuple):
    """Sums over positions; they add up over micro-batches and ranks, candidates by keeping the best scores."""

    counts: Tensor
    """(K,) positions that chose each code."""

    sums: Tensor
    """(K, D) sum of their encoder outputs."""

    error: Tensor
    """() sum over positions of the squared distance to the code."""

    scores: Tensor
    """(R,) of the candidates for revival; higher is better, -inf marks an empty place."""

    candidates: Tensor
    """(R, D) encoder outputs drawn with probability in proportion to their squared error."""

    def __add__(self, other: tuple[Tensor, ...]) -> CodeStatistics:  # type: ignore[override]  # sums instead of joining
        counts, sums, error, scores, candidates = other
        best = torch.topk(torch.cat([self.scores, scores]), len(self.scores))
        drawn = torch.cat([self.candidates, candidates])[best.indices]
        return CodeStatistics(self.counts + counts, self.sums + sums, self.error + error, best.values, drawn)


class QuantizerOutput(NamedTuple):
    """What one forward pass returns."""

    z_q: Tensor
    """(B, D, h, w) quantized, with a gradient towards z_e."""

    codes: Tensor
    """(B, h, w) int64; all 0 before the codebook is initialised."""

    commitment: Tensor
    """() mean squared distance of z_e to its (fixed) code."""

    codebook: Tensor
    """() mean squared distance of the code to (fixed) z_e; 0 for kind ``ema``."""

    statistics: CodeStatistics | None
    """None without ``keys`` and before initialisation."""

    samples: Tensor | None
    """(B, S, D) encoder outputs drawn from each slice, only before initialisation."""


class Quantizer(nn.Module):
    """A codebook of K codes of width D and the search for the nearest, or with ``rate`` for the cheapest.

    Everything is computed in float32 (float64 if given), with autocast off: in half precision the expanded distance
    cancels, near codes tie, and sums over background overflow.
    """

    fixed = False
    """Codes never move, and so run nowhere."""

    weight: Tensor
    counts: Tensor
    sums: Tensor
    ready: Tensor
    revived: Tensor
    distortion: Tensor

    def __init__(
        self,
        K: int,
        D: int,
        *,
        kind: Kind = "ema",
        distance: str = "euclidean",
        decay: float = 0.99,
        init: str = "kmeans",
        revive_below: float = 0.5,
        gradient: str = "straight_through",
        rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.K, self.D, self.kind, self.distance, self.rate = K, D, kind, distance, rate
        self.decay, self.init, self.revive_below, self.gradient = decay, init, revive_below, gradient
        weight = torch.randn(K, D) / D**0.5
        if kind == "gradient":
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        # Averages start at one position a code, so that an unused code neither runs away nor shrinks to zero.
        self.register_buffer("counts", torch.ones(K))
        self.register_buffer("sums", weight.clone())
        self.register_buffer("ready", torch.tensor(float(init == "normal")))
        self.register_buffer("revived", torch.zeros(()))  # codes revived so far
        if rate:
            self.register_buffer("distortion", torch.zeros(()))  # mean squared distance to the code, averaged as counts
        self.is_ready = init == "normal"
        self.register_load_state_dict_post_hook(lambda module, _: module.read_ready())  # type: ignore[no-untyped-call]  # torch has no types here

    @classmethod
    def of(cls, config: VQVAEModelConfig) -> Quantizer:
        """An untrained one by the settings of the model it belongs to."""
        q = config.quantizer
        return cls(
            config.codebook_size,
            config.code_dim,
            kind=q.kind,
            distance=q.distance,
            decay=q.decay,
            init=q.init,
            revive_below=q.revive_below,
            gradient=q.gradient,
            rate=q.rate,
        )

    def read_ready(self) -> None:
        """Take up ``ready`` from loaded weights as a plain bool, so that a forward pass needs no device sync."""
        self.is_ready = bool(self.ready.item())

    def forward(self, z_e: Tensor, keys: Tensor | None = None, samples: int = 0) -> QuantizerOutput:
        """Quantize ``z_e`` (B, D, h, w).

        ``keys`` (B,) int64, one a slice, decide every random draw; without them no statistics are collected.
        ``samples``: encoder outputs to return from each slice while the codebook is not initialised.
        """
        with torch.autocast(z_e.device.type, enabled=False):
            z = z_e if z_e.dtype == torch.float64 else z_e.float()
            B, D, h, w = z.shape
            flat = z.permute(0, 2, 3, 1).reshape(-1, D)  # (B, D, h, w) -> (B*h*w, D)
            if self.distance == "cosine":
                flat = F.normalize(flat, dim=1)
            if not self.is_ready:
                return self._pass_through(z, flat, keys, samples)
            index = nearest(flat.detach(), self.weight.detach(), self.surcharge())
            quantized, errors = GRADIENTS[self.gradient](flat, self.weight.detach(), index)
            commitment = errors.mean() / D
            codebook = commitment.new_zeros(())
            if self.kind == "gradient":
                codebook = F.mse_loss(F.embedding(index, self.weight), flat.detach())
            z_q = quantized.reshape(B, h, w, D).permute(0, 3, 1, 2)
            statistics = None if keys is None else self._statistics(flat.detach(), index, errors.detach(), keys)
            return QuantizerOutput(z_q, index.reshape(B, h, w), commitment, codebook, statistics, None)

    def surcharge(self) -> Tensor | None:
        """What each code's length in bits adds to its squared distance, (K,); None without ``rate``."""
        if not self.rate:
            return None
        counts = self.counts + UNSEEN
        return self.rate * self.distortion * (counts.sum() / counts).log2()

    def _pass_through(self, z: Tensor, flat: Tensor, keys: Tensor | None, samples: int) -> QuantizerOutput:
        B, D, h, w = z.shape
        drawn = None
        if keys is not None and samples:
            order = cell_uniforms(keys, h * w).topk(min(samples, h * w), dim=1).indices  # (B, S)
            drawn = flat.detach().reshape(B, h * w, D).gather(1, order[:, :, None].expand(-1, -1, D))
        zero = z.new_zeros(())
        # A gradient of zero: the optimizer's state of a gradient codebook begins at the first step, like all others.
        unused = zero + 0.0 * self.weight.sum() if self.kind == "gradient" else zero
        passed = flat.reshape(B, h, w, D).permute(0, 3, 1, 2)
        return QuantizerOutput(passed, z.new_zeros(B, h, w, dtype=torch.int64), zero, unused, None, drawn)

    def _statistics(self, flat: Tensor, index: Tensor, errors: Tensor, keys: Tensor) -> CodeStatistics:
        counts = torch.bincount(index, minlength=self.K).to(flat.dtype)
        # Gumbel-top-k: the highest log(weight) + Gumbel noise is a draw without replacement by weight (Vieira 2014).
        noise = -torch.log(-torch.log(cell_uniforms(keys, len(flat) // len(keys)).flatten()))
        best = torch.topk(errors.log() + noise.to(flat.dtype), min(REVIVALS, len(flat)))
        pad = REVIVALS - len(best.values)
        scores = F.pad(best.values, (0, pad), value=-torch.inf)
        sums = code_sums(flat, index, self.K)
        return CodeStatistics(counts, sums, errors.sum(), scores, F.pad(flat[best.indices], (0, 0, 0, pad)))

    @torch.no_grad()
    def initialise(self, samples: Tensor) -> None:
        """Set the codebook from ``samples`` (S, D) of a global batch, alike on every rank.

        Each code counts as one position: it moves fast at first, and one that the changing encoder leaves behind is
        revived after tens of steps (its true share would take hundreds to decay).
        """
        samples = samples.to(self.weight.dtype)
        codes = kmeans(samples, self.K, iterations=10 if self.init == "kmeans" else 0)
        if self.distance == "cosine":
            codes = F.normalize(codes, dim=1)
        self.weight.copy_(codes)
        self.counts.fill_(1.0)
        self.sums.copy_(codes)
        self.ready.fill_(1.0)
        self.is_ready = True

    @torch.no_grad()
    def update(self, statistics: CodeStatistics) -> None:
        """Move the codebook by the statistics of one global batch, and revive codes that are not used."""
        if self.rate:
            mean_error = (statistics.error / statistics.counts.sum()).to(self.distortion.dtype)
            self.distortion.lerp_(mean_error, 1.0 - self.decay)
        self.counts.lerp_(statistics.counts.to(self.counts.dtype), 1.0 - self.decay)
        self.sums.lerp_(statistics.sums.to(self.sums.dtype), 1.0 - self.decay)
        if self.kind == "ema":
            means = self.sums / self.counts.clamp_min(1e-6)[:, None]
            if self.distance == "cosine":
                means = F.normalize(means, dim=1)
            # A code that nothing chose for very long keeps its place; its average has run dry.
            self.weight.copy_(torch.where(self.counts[:, None] > 1e-5, means, self.weight))
        self._revive(statistics)

    def _revive(self, statistics: CodeStatistics) -> None:
        offered = int(torch.isfinite(statistics.scores).sum())
        dead = torch.nonzero(self.counts < self.revive_below).flatten()[:offered]
        if len(dead):
            places = statistics.candidates[: len(dead)].to(self.weight.dtype)  # best scores first
            self.weight[dead] = places
            self.counts[dead] = max(1.0, 2.0 * self.revive_below)
            self.sums[dead] = places * self.counts[dead][:, None]
            self.revived += len(dead)
