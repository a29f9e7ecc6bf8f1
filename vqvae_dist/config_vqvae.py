"""The settings of a VQ-VAE's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

from vqvae_dist.config_base import (
    MAX_CHANNELS,
    MAX_CODES,
    MAX_LAYERS,
    Best,
    ChoosingSplit,
    DataPath,
    Split,
    below_one,
    check,
    config,
    not_negative,
    scored_by,
    unused,
    up_to,
    younger,
)
from vqvae_dist.config_quantizer import QUANTIZERS, QuantizerConfig
from vqvae_dist.config_training import TrainConfig

VQVAE_METRICS: Mapping[str, Best] = {
    "ssim": "max",
    "ssim_foreground": "max",
    "psnr": "max",
    "mse": "min",
    "black_error": "min",
    "usage": "max",
    "perplexity": "max",
    "perplexity_foreground": "max",
    "background_codes": "min",
}
"""What a validation measures, under ``validate/``, and which values are the best.

Each is a figure of a slice (``metrics.image.FIGURES``) or of the codebook's use (``metrics.codebook.CodebookUse``).
"""


@config
class DataConfig:
    """Which packed slices are trained on, and how they are read."""

    path: DataPath = ""
    """Packed slices, made by ``python -m data_tools pack``."""

    train_split: Split = "train"
    """The split that is trained on."""

    validate_split: ChoosingSplit = "validate"
    """The split that is scored during training and chooses the best checkpoint; never ``test``."""

    workers: int = 0
    """Processes that read slices ahead; 0 reads ahead in a thread."""

    preload: Literal["off", "scratch", "ram"] = "off"
    """Before training, copy the file to node-local scratch ($TMPDIR), or the slices into memory."""

    crop: int = 0
    """Side in native pixels of a random window inside the head that is trained on; 0 trains on whole slices."""

    augment: Literal["none", "flip"] = "none"
    """``flip`` mirrors half of the training slices left to right."""

    def __post_init__(self) -> None:
        not_negative("data.workers", self.workers)
        not_negative("data.crop", self.crop)


@config
class VQVAEModelConfig:
    """The VQ-VAE's networks and codebook."""

    hidden: int = 128
    """Channels of the encoder and decoder."""

    residual_layers: int = 2
    """Residual blocks at the code resolution, in the encoder and in the decoder."""

    residual_hidden: int = 32
    """Channels inside a residual block."""

    downsample: int = 4
    """Pixels a code covers along each side: a power of two."""

    codebook_size: int = 512
    """Number of codes, K."""

    code_dim: int = 64
    """Width of a code, D."""

    norm: Literal["none", "layer"] = "none"
    """Normalisation inside residual blocks: none, or over the channels of each position."""

    stem: Literal["strided", "space_to_depth"] = younger(default="strided")
    """How the encoder leaves the pixels: by strided convolutions, or by folding blocks of up to 4 x 4 into channels."""

    upsample: Literal["transpose", "shuffle", "nearest", "depth_to_space"] = "transpose"
    """How the decoder doubles its resolution: transposed convolution, pixel shuffle, or nearest + convolution; or it
    unfolds channels into blocks of up to 4 x 4 pixels at its end."""

    ema: float = 0.0
    """Decay of averaged weights, used for validation and export; 0 uses the weights as they are."""

    quantizer: QuantizerConfig = QuantizerConfig()

    def __post_init__(self) -> None:
        for name in ("hidden", "residual_hidden", "code_dim"):
            up_to(f"model.{name}", getattr(self, name), MAX_CHANNELS)
        check(
            0 <= self.residual_layers <= MAX_LAYERS, "model.residual_layers", self.residual_layers, f"0 to {MAX_LAYERS}"
        )
        size = self.codebook_size
        check(2 <= size <= MAX_CODES, "model.codebook_size", size, f"from 2 to {MAX_CODES}")
        power = self.downsample >= 2 and self.downsample & (self.downsample - 1) == 0
        check(power, "model.downsample", self.downsample, "a power of two from 2")
        below_one("model.ema", self.ema)
        kind, K, D = QUANTIZERS[self.quantizer.kind], self.codebook_size, self.code_dim
        if not kind.has_size(K, D):
            raise ValueError(
                f"model.codebook_size must be {kind.sizes} with model.quantizer.kind {self.quantizer.kind}, "
                f"got {K} with model.code_dim {D}{kind.fitting(K, D)}"
            )


@config
class LossConfig:
    """Weights of the terms of the reconstruction loss."""

    # Each is that of the function of its name in ``training/loss_terms.py``.
    mse: float = 1.0
    """Mean squared error."""

    l1: float = 0.0
    """Mean absolute error."""

    ssim: float = 0.0
    """1 - SSIM (7x7 uniform window)."""

    edges: float = younger(default=0.0)
    """Mean absolute error of the differences between neighbouring pixels, which keeps edges sharp."""

    def __post_init__(self) -> None:
        weights = asdict(self)
        for name, weight in weights.items():
            not_negative(f"loss.{name}", weight)
        check(any(weights.values()), "loss", f"{' = '.join(weights)} = 0", "positive in one term at least")


@config
class VQVAEConfig(TrainConfig):
    """Settings of ``train-vqvae``."""

    data: DataConfig = DataConfig()
    model: VQVAEModelConfig = VQVAEModelConfig()
    loss: LossConfig = LossConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        crop, factor = self.data.crop, self.model.downsample
        scored_by(self.checkpoint.best_metric, VQVAE_METRICS)
        check(crop % factor == 0, "data.crop", crop, f"a multiple of model.downsample {factor}")
        first, steps = self.model.quantizer.init_after, self.schedule.steps
        check(first < steps, "model.quantizer.init_after", first, f"below schedule.steps {steps}")

    @property
    def idle(self) -> frozenset[str]:
        """The settings that ``model.quantizer.kind`` does not use."""
        return unused("model.quantizer.", QuantizerConfig, QUANTIZERS[self.model.quantizer.kind].uses)

    @property
    def kind_text(self) -> str:
        """The kind of quantizer."""
        return f"model.quantizer.kind {self.model.quantizer.kind}"
