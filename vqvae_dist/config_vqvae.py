"""The settings of a VQ-VAE's training."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from vqvae_dist.config_base import (
    MAX_CHANNELS,
    MAX_LAYERS,
    ChoosingSplit,
    Split,
    below_one,
    check,
    config,
    not_negative,
    scored_by,
    up_to,
)
from vqvae_dist.config_training import TrainConfig

VQVAE_METRICS = (
    "ssim", "ssim_foreground", "psnr", "mse", "black_error",
    "usage", "perplexity", "perplexity_foreground", "background_codes",
)  # fmt: skip
"""What a validation measures, under ``validate/``."""


@config
class DataConfig:
    """Which packed slices are trained on, and how they are read."""

    path: str = ""
    """Packed slices, made by ``python -m data_tools pack``; needed."""

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
class QuantizerConfig:
    """How an encoder output becomes a code."""

    kind: Literal["ema", "gradient", "fsq"] = "ema"
    """``ema``: codes are moving averages of their encoder outputs; ``gradient``: trained by the codebook loss;
    ``fsq``: finite scalar quantization, a fixed grid, for which the settings below change nothing."""

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

    def __post_init__(self) -> None:
        below_one("model.quantizer.decay", self.decay)
        not_negative("model.quantizer.commitment", self.commitment)
        not_negative("model.quantizer.init_after", self.init_after)
        not_negative("model.quantizer.revive_below", self.revive_below)
        check(
            not (self.init == "normal" and self.init_after),
            "model.quantizer.init_after",
            self.init_after,
            "0 with model.quantizer.init normal",
        )


IDLE_SETTINGS = {
    "fsq": ("distance", "decay", "commitment", "init", "init_after", "revive_below", "gradient"),
}
"""Of a kind of quantizer, the settings that change nothing; runs that differ in them are the same run."""


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

    upsample: Literal["transpose", "shuffle", "nearest"] = "transpose"
    """How the decoder doubles its resolution: transposed convolution, pixel shuffle, or nearest + convolution."""

    ema: float = 0.0
    """Decay of averaged weights, used for validation and export; 0 uses the weights as they are."""

    quantizer: QuantizerConfig = QuantizerConfig()

    def __post_init__(self) -> None:
        for name in ("hidden", "residual_hidden", "code_dim"):
            up_to(f"model.{name}", getattr(self, name), MAX_CHANNELS)
        check(
            0 <= self.residual_layers <= MAX_LAYERS, "model.residual_layers", self.residual_layers, f"0 to {MAX_LAYERS}"
        )
        check(2 <= self.codebook_size <= 65536, "model.codebook_size", self.codebook_size, "from 2 to 65536")
        power = self.downsample >= 2 and self.downsample & (self.downsample - 1) == 0
        check(power, "model.downsample", self.downsample, "a power of two from 2")
        below_one("model.ema", self.ema)
        if self.quantizer.kind == "fsq":
            levels = max(2, round(self.codebook_size ** (1.0 / self.code_dim)))
            check(
                levels**self.code_dim == self.codebook_size,
                "model.codebook_size",
                self.codebook_size,
                f"levels to the power of model.code_dim {self.code_dim} with model.quantizer.kind fsq, as 8^3 = 512",
            )


@config
class LossConfig:
    """Weights of the reconstruction terms."""

    mse: float = 1.0
    """Mean squared error."""

    l1: float = 0.0
    """Mean absolute error."""

    ssim: float = 0.0
    """1 - SSIM (7x7 uniform window)."""

    edges: float = 0.0
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
