"""The VQ-VAE of van den Oord et al. 2017: a convolutional encoder and decoder around a quantizer."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqvae_dist.models.quantizer import CodeStatistics, Quantizer


class VQVAEOutput(NamedTuple):
    """What a forward pass over (B, 1, H, W) images returns."""

    reconstruction: Tensor
    """(B, 1, H, W), around [0, 1] but not clipped."""

    codes: Tensor
    """(B, h, w) int64."""

    commitment: Tensor
    """() commitment term."""

    codebook: Tensor
    """() codebook term; 0 where codes are moving averages."""

    statistics: CodeStatistics | None
    """For the codebook's update."""

    samples: Tensor | None
    """(B, S, D) for the codebook's initialisation."""


FOLD = 4
"""Side in pixels of the largest blocks that are folded into channels; what is left to halve, convolutions do."""


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position, so that no slice's background weighs on its head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, h, w)."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]  # a module's call is Any


class ResidualBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), with a channel norm first if asked."""

    def __init__(self, channels: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ChannelNorm(channels) if norm == "layer" else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]  # a module's call is Any


def halvings(downsample: int) -> int:
    """How often ``downsample`` halves a side: log2."""
    return downsample.bit_length() - 1


class Encoder(nn.Sequential):
    """(B, 1, H, W) -> (B, D, H / downsample, W / downsample), by a stem and residual blocks."""

    def __init__(
        self, hidden: int, layers: int, residual_hidden: int, downsample: int, D: int, norm: str, stem: str
    ) -> None:
        super().__init__(
            *lower_resolution(hidden, downsample, stem),
            *[ResidualBlock(hidden, residual_hidden, norm) for _ in range(layers)],
            nn.ReLU(),
            nn.Conv2d(hidden, D, 1),
        )


class Decoder(nn.Sequential):
    """(B, D, h, w) -> (B, 1, h * downsample, w * downsample), by residual blocks and upsampling."""

    def __init__(
        self, hidden: int, layers: int, residual_hidden: int, downsample: int, D: int, norm: str, upsample: str
    ) -> None:
        up = higher_resolution(hidden, downsample, upsample)  # first, as ever: a seed draws the same weights
        super().__init__(
            nn.Conv2d(D, hidden, 3, padding=1),
            *[ResidualBlock(hidden, residual_hidden, norm) for _ in range(layers)],
            *up,
        )


def lower_resolution(hidden: int, downsample: int, stem: str) -> list[nn.Module]:
    """(B, 1, H, W) -> (B, hidden, H / downsample, W / downsample)."""
    if stem == "space_to_depth":
        fold = min(FOLD, downsample)
        channels = widths(hidden, downsample // fold)
        down: list[nn.Module] = [nn.PixelUnshuffle(fold), nn.Conv2d(fold**2, channels[0], 3, padding=1)]
        for width_in, width_out in itertools.pairwise(channels):
            down += [nn.ReLU(), nn.Conv2d(width_in, width_out, 4, stride=2, padding=1)]
        return down
    down = []
    for width_in, width_out in itertools.pairwise([1, *widths(hidden, downsample // 2)]):
        down += [nn.Conv2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    return [*down, nn.Conv2d(hidden, hidden, 3, padding=1)]


def higher_resolution(hidden: int, downsample: int, upsample: str) -> list[nn.Module]:
    """(B, hidden, h, w) -> (B, 1, h * downsample, w * downsample)."""
    if upsample == "depth_to_space":
        fold, doubling = min(FOLD, downsample), "transpose"
        channels = widths(hidden, downsample // fold)
        last: list[nn.Module] = [nn.ReLU(), nn.Conv2d(channels[0], fold**2, 3, padding=1), nn.PixelShuffle(fold)]
    else:
        channels, doubling, last = [1, *widths(hidden, downsample // 2)], upsample, []
    up: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(reversed(channels)):
        up += [nn.ReLU(), double_resolution(width_in, width_out, doubling)]
    return up + last


def widths(hidden: int, downsample: int) -> list[int]:
    """Channels at each resolution from ``downsample`` times the code resolution to this itself."""
    return [max(hidden // 2, 1)] * halvings(downsample) + [hidden]


def double_resolution(width_in: int, width_out: int, kind: str) -> nn.Module:
    """(B, width_in, h, w) -> (B, width_out, 2h, 2w)."""
    if kind == "transpose":
        return nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1)
    if kind == "shuffle":  # Shi et al. 2016
        return nn.Sequential(nn.Conv2d(width_in, 4 * width_out, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(width_in, width_out, 3, padding=1))


class VQVAE(nn.Module):
    """Images to codes and back, at any height and width.

    Sides that are not multiples of ``downsample`` are padded with zeros (background) below and to the right for the
    network, and cropped back.
    """

    def __init__(
        self,
        *,
        hidden: int = 128,
        residual_layers: int = 2,
        residual_hidden: int = 32,
        downsample: int = 4,
        codebook_size: int = 512,
        code_dim: int = 64,
        norm: str = "none",
        stem: str = "strided",
        upsample: str = "transpose",
        quantizer: Quantizer | None = None,
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.recompute = False
        shape = (hidden, residual_layers, residual_hidden, downsample, code_dim, norm)
        self.encoder = Encoder(*shape, stem)
        self.quantizer = quantizer or Quantizer(codebook_size, code_dim)
        self.decoder = Decoder(*shape, upsample)

    def forward(self, images: Tensor, keys: Tensor | None = None, samples: int = 0) -> VQVAEOutput:
        """Reconstruct ``images`` (B, 1, H, W); ``keys`` and ``samples`` as in ``Quantizer.forward``."""
        H, W = images.shape[-2:]
        z_e = self._run(self.encoder, self.pad(images))
        z_q, codes, commitment, codebook, statistics, drawn = self.quantizer(z_e, keys, samples)
        reconstruction = self._run(self.decoder, z_q)[..., :H, :W]
        return VQVAEOutput(reconstruction, codes, commitment, codebook, statistics, drawn)

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, h, w) int64 of ``images`` (B, 1, H, W)."""
        codes: Tensor = self.quantizer(self.encoder(self.pad(images))).codes
        return codes

    def decode(self, codes: Tensor, size: tuple[int, int]) -> Tensor:
        """Images (B, 1, H, W) of ``codes`` (B, h, w), cropped to ``size`` (H, W)."""
        z_q = F.embedding(codes, self.quantizer.weight).permute(0, 3, 1, 2)  # (B, h, w, D) -> (B, D, h, w)
        images: Tensor = self.decoder(z_q)[..., : size[0], : size[1]]
        return images

    def pad(self, images: Tensor) -> Tensor:
        """Pad (B, 1, H, W) with zeros to multiples of ``downsample``."""
        H, W = images.shape[-2:]
        below, right = -H % self.downsample, -W % self.downsample
        return F.pad(images, (0, right, 0, below)) if below or right else images

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Code cells (h, w) of an image of ``size`` (H, W)."""
        return -(-size[0] // self.downsample), -(-size[1] // self.downsample)

    def _run(self, part: nn.Sequential, x: Tensor) -> Tensor:
        """Run encoder or decoder; with ``recompute``, keep only its input for the backward pass."""
        if self.recompute and self.training:
            return checkpoint(part, x, use_reentrant=False)  # type: ignore[no-any-return]  # a module's call is Any
        return part(x)  # type: ignore[no-any-return]  # a module's call is Any
