"""The settings of a training, as a tree of frozen dataclasses; the same dotted name everywhere.

``optim.lr`` here is ``--optim.lr`` on the command line, ``[optim] lr`` in a TOML file, ``"optim.lr"`` in a
sweep, in ``config.json`` and in W&B. Trees are read by ``config_io``, once, and never changed after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar, dataclass_transform

RESULT_VERSION = 1
"""Part of every fingerprint; raised by hand when the same settings no longer train to the same result."""

Split = Literal["train", "validate", "test", "all"]
C = TypeVar("C")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[C]) -> type[C]:
    """Make a frozen, keyword-only dataclass that pydantic reads strictly: no unknown keys, no coercion."""
    cls.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


def check(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the setting, its value and what is allowed, unless ``holds``."""
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {value}")


def _positive(name: str, value: float) -> None:
    check(value > 0 and math.isfinite(value), name, value, "positive")


def _not_negative(name: str, value: float) -> None:
    check(value >= 0 and math.isfinite(value), name, value, "0 or more")


def _below_one(name: str, value: float) -> None:
    check(0 <= value < 1, name, value, "at least 0 and below 1")


@config
class DataConfig:
    """Which packed slices are trained on, and how they are read."""

    path: str = ""
    """Packed slices, made by ``data_tools pack``."""

    train_split: Split = "train"
    """The split that is trained on."""

    validate_split: Split = "validate"
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
        _not_negative("data.workers", self.workers)
        _not_negative("data.crop", self.crop)
        check(self.validate_split != "test", "data.validate_split", "test", "a split that is not test")


@config
class CodesDataConfig:
    """Which codes a prior is trained on, and how they are read."""

    path: str = ""
    """Codes, made by ``vqvae_dist extract-codes``."""

    train_split: Split = "train"
    """The split that is trained on."""

    validate_split: Split = "validate"
    """The split that is scored during training and chooses the best checkpoint; never ``test``."""

    workers: int = 0
    """Processes that read codes ahead; 0 reads ahead in a thread."""

    preload: Literal["off", "scratch", "ram"] = "ram"
    """Before training, copy the file to node-local scratch ($TMPDIR), or the codes into memory."""

    def __post_init__(self) -> None:
        _not_negative("data.workers", self.workers)
        check(self.validate_split != "test", "data.validate_split", "test", "a split that is not test")


@config
class QuantizerConfig:
    """How an encoder output becomes a code."""

    kind: Literal["ema", "gradient"] = "ema"
    """``ema``: codes are moving averages of their encoder outputs; ``gradient``: trained by the codebook loss."""

    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Which code counts as nearest."""

    decay: float = 0.99
    """Of the moving averages of code counts and sums, per optimizer step (kind ``ema``)."""

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
        _below_one("model.quantizer.decay", self.decay)
        _not_negative("model.quantizer.commitment", self.commitment)
        _not_negative("model.quantizer.init_after", self.init_after)
        _not_negative("model.quantizer.revive_below", self.revive_below)
        check(
            not (self.init == "normal" and self.init_after),
            "model.quantizer.init_after",
            self.init_after,
            "0 with model.quantizer.init normal",
        )


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
            _positive(f"model.{name}", getattr(self, name))
        _not_negative("model.residual_layers", self.residual_layers)
        check(2 <= self.codebook_size <= 65536, "model.codebook_size", self.codebook_size, "from 2 to 65536")
        power = self.downsample >= 2 and self.downsample & (self.downsample - 1) == 0
        check(power, "model.downsample", self.downsample, "a power of two from 2")
        _below_one("model.ema", self.ema)


@config
class PixelCNNModelConfig:
    """The gated PixelCNN over codes."""

    layers: int = 12
    """Gated layers; the first has mask A."""

    hidden: int = 128
    """Channels of each stack."""

    kernel: int = 3
    """Side of the masked convolutions, odd; the first layer uses at least 7."""

    dilations: tuple[int, ...] = (1, 2, 4)
    """Dilations, cycling over the layers."""

    attention: int = 0
    """A causal self-attention block after every so many layers; 0 for none."""

    dropout: float = 0.0
    """Share of channels dropped in each layer while training."""

    condition_position: bool = True
    """Condition on the slice's position in its volume."""

    condition_coordinates: bool = True
    """Condition each cell on its coordinates in the grid."""

    condition_class: bool = False
    """Condition on the subject's class; the codes must carry one."""

    ema: float = 0.999
    """Decay of averaged weights, used for validation and sampling; 0 uses the weights as they are."""

    def __post_init__(self) -> None:
        _positive("model.layers", self.layers)
        _positive("model.hidden", self.hidden)
        check(self.kernel >= 3 and self.kernel % 2 == 1, "model.kernel", self.kernel, "odd and 3 or more")
        good = len(self.dilations) > 0 and min(self.dilations) >= 1
        check(good, "model.dilations", self.dilations, "one or more numbers from 1")
        _not_negative("model.attention", self.attention)
        _below_one("model.dropout", self.dropout)
        _below_one("model.ema", self.ema)


@config
class LossConfig:
    """Weights of the reconstruction terms."""

    mse: float = 1.0
    """Mean squared error."""

    l1: float = 0.0
    """Mean absolute error."""

    ssim: float = 0.0
    """1 - SSIM (7x7 uniform window)."""

    def __post_init__(self) -> None:
        for name in ("mse", "l1", "ssim"):
            _not_negative(f"loss.{name}", getattr(self, name))
        check(self.mse + self.l1 + self.ssim > 0, "loss", "mse = l1 = ssim = 0", "positive in one term at least")


@config
class OptimConfig:
    """AdamW with warm-up and a multi-step decay, in optimizer steps."""

    lr: float = 1e-3
    """Learning rate after the warm-up and before the first milestone."""

    milestones: tuple[int | float, ...] = (0.65, 0.9)
    """Where ``lr`` is multiplied by ``gamma``: optimizer steps, or shares of ``schedule.steps``."""

    gamma: float = 0.1
    """Factor at each milestone."""

    warmup: int | float = 0
    """Steps over which ``lr`` rises linearly from 0: optimizer steps, or a share of ``schedule.steps``."""

    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW; never applied to biases, normalisations and codes."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's first and second moments."""

    gradient_clip: float = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        _positive("optim.lr", self.lr)
        _positive("optim.gamma", self.gamma)
        _not_negative("optim.weight_decay", self.weight_decay)
        _not_negative("optim.gradient_clip", self.gradient_clip)
        for beta in self.betas:
            _below_one("optim.betas", beta)
        for milestone in self.milestones:
            check(
                _is_step(milestone),
                "optim.milestones",
                milestone,
                "whole steps from 1, or shares between 0 and 1",
            )
        check(
            self.warmup == 0 or _is_step(self.warmup),
            "optim.warmup",
            self.warmup,
            "0, whole steps, or a share",
        )
        if len({type(milestone) for milestone in self.milestones}) == 1:
            rising = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
            check(rising, "optim.milestones", self.milestones, "rising")


def _is_step(value: int | float) -> bool:
    return value >= 1 if isinstance(value, int) else 0 < value < 1


@config
class ScheduleConfig:
    """How long is trained, and what happens how often; all in optimizer steps."""

    steps: int = 1000
    """Optimizer steps in all."""

    batch_size: int = 8
    """Slices an optimizer step, over all processes."""

    micro_batch_size: int = 0
    """Slices a forward pass on one process; 0 takes a process's whole share at once."""

    log_every: int = 20
    """Steps between rows of train/ metrics."""

    validate_every: int = 250
    """Steps between validations."""

    image_every: int = 500
    """Steps between pictures of reconstructions or samples."""

    checkpoint_every: int = 250
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every", "image_every", "checkpoint_every"):
            _positive(f"schedule.{name}", getattr(self, name))
        _not_negative("schedule.micro_batch_size", self.micro_batch_size)


@config
class PrecisionConfig:
    """Arithmetic and compilation. The quantizer always computes in float32."""

    mixed: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Autocast of the networks; auto: bf16 where it is fast, else no. fp16 needs CUDA."""

    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: only where the remaining steps repay it."""

    tf32: bool = False
    """Allow TF32 in float32 matrix products and convolutions on CUDA."""

    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


@config
class CheckpointConfig:
    """What is kept of a run."""

    keep_last: int = 2
    """Newest checkpoints kept, beside the best one."""

    best_metric: str = ""
    """A validate/ metric, with "max " or "min " before it; empty takes the stage's own."""

    def __post_init__(self) -> None:
        check(
            self.keep_last >= 2,
            "checkpoint.keep_last",
            self.keep_last,
            "2 or more (the newest may be damaged)",
        )
        if self.best_metric:
            words = self.best_metric.split()
            good = len(words) == 2 and words[0] in ("max", "min") and words[1].startswith("validate/")
            check(good, "checkpoint.best_metric", self.best_metric, 'like "max validate/ssim"')


@config
class TrackingConfig:
    """W&B; metrics.jsonl is written whatever the mode."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where a key is there and the server answers within seconds, else offline."""

    project: str = "brain-vqvae"
    """W&B project."""

    entity: str = ""
    """W&B entity (team or user); empty takes the account's default."""

    group: str = ""
    """W&B group; a sweep sets its name."""

    tags: tuple[str, ...] = ()
    """W&B tags."""


@config
class RuntimeConfig:
    """Processes."""

    collective_timeout_s: int = 300
    """Seconds after which a collective that not all processes reach ends the run."""

    def __post_init__(self) -> None:
        _positive("runtime.collective_timeout_s", self.collective_timeout_s)


@config
class TrainConfig:
    """What both trainings share."""

    seed: int = 0
    """Of everything random: weights, order, crops, dropout, revival."""

    output_dir: str = ""
    """The run folder."""

    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: PrecisionConfig = PrecisionConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2^63 - 1")

    @property
    def milestones(self) -> tuple[int, ...]:
        """``optim.milestones`` in optimizer steps."""
        return tuple(to_steps(milestone, self.schedule.steps) for milestone in self.optim.milestones)

    @property
    def warmup(self) -> int:
        """``optim.warmup`` in optimizer steps."""
        return to_steps(self.optim.warmup, self.schedule.steps)


@config
class VQVAEConfig(TrainConfig):
    """Settings of ``train-vqvae``."""

    data: DataConfig = DataConfig()
    model: VQVAEModelConfig = VQVAEModelConfig()
    loss: LossConfig = LossConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        crop, factor = self.data.crop, self.model.downsample
        check(crop % factor == 0, "data.crop", crop, f"a multiple of model.downsample {factor}")


@config
class PixelCNNConfig(TrainConfig):
    """Settings of ``train-pixelcnn``."""

    data: CodesDataConfig = CodesDataConfig()
    model: PixelCNNModelConfig = PixelCNNModelConfig()


STAGES: dict[str, type[VQVAEConfig] | type[PixelCNNConfig]] = {
    "train-vqvae": VQVAEConfig,
    "train-pixelcnn": PixelCNNConfig,
}


def to_steps(value: int | float, steps: int) -> int:
    """A number of steps as it is; a share of ``steps`` rounded, and at least 1."""
    return value if isinstance(value, int) else max(1, round(value * steps))
