"""The settings of a prior's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from vqvae_dist.config_base import (
    MAX_CHANNELS,
    MAX_LAYERS,
    Best,
    ChoosingSplit,
    DataPath,
    Split,
    below_one,
    check,
    config,
    each_described,
    not_negative,
    scored_by,
    unused,
    up_to,
    younger,
)
from vqvae_dist.config_training import TrainConfig

PIXELCNN_METRICS: Mapping[str, Best] = {
    "bits_per_code": "min",
    "bits_per_code_foreground": "min",
    "bits_per_code_background": "min",
}
"""What a validation measures, under ``validate/``, and which values are the best."""


@config
class CodesDataConfig:
    """Which codes a prior is trained on, and how they are read."""

    path: DataPath = ""
    """Codes, made by ``python -m vqvae_dist extract-codes``."""

    train_split: Split = "train"
    """The split that is trained on."""

    validate_split: ChoosingSplit = "validate"
    """The split that is scored during training and chooses the best checkpoint; never ``test``."""

    workers: int = 0
    """Processes that read codes ahead; 0 reads ahead in a thread."""

    preload: Literal["off", "scratch", "ram"] = "ram"
    """Before training, copy the file to node-local scratch ($TMPDIR), or the codes into memory."""

    def __post_init__(self) -> None:
        not_negative("data.workers", self.workers)


@dataclass(frozen=True, kw_only=True)
class KindOfPrior:
    """What is known of a kind of prior before it is built."""

    about: str
    """What it is, in a few words for ``--help``."""

    prior: str
    """``module:class``, imported when a model is built; its ``of`` makes one from the settings."""

    uses: frozenset[str]
    """Settings of ``PixelCNNModelConfig`` that it uses; runs that differ in others alone are the same run."""


CONVOLUTIONAL = frozenset(
    {
        "layers", "hidden", "kernel", "dilations", "dropout", "ema",
        "condition_position", "condition_coordinates", "condition_class",
    }
)  # fmt: skip
"""What the priors of masked convolutions use."""

PRIORS: dict[str, KindOfPrior] = {
    "pixelcnn": KindOfPrior(
        about="two stacks without a blind spot",
        prior="vqvae_dist.models.pixelcnn:PixelCNN",
        uses=CONVOLUTIONAL | {"attention"},
    ),
    "single_stack": KindOfPrior(
        about="one masked stack, a baseline without attention that draws slowly",
        prior="vqvae_dist.models.single_stack:SingleStack",
        uses=CONVOLUTIONAL,
    ),
}
"""A further kind is a module with its class, and an entry here."""

if TYPE_CHECKING:
    PriorKind = str
else:  # what settings may hold, and ``--help`` and completions list
    PriorKind = Literal[tuple(PRIORS)]


@config
class PixelCNNModelConfig:
    """The gated PixelCNN over codes."""

    kind: Annotated[PriorKind, each_described(PRIORS)] = younger(default="pixelcnn")
    """One of ``PRIORS``."""

    layers: int = 12
    """Gated layers."""

    hidden: int = 128
    """Channels of each stack."""

    kernel: int = 3
    """Side of the convolutions, odd; what lies after a cell is cut off."""

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
        up_to("model.layers", self.layers, MAX_LAYERS)
        up_to("model.hidden", self.hidden, MAX_CHANNELS)
        check(self.kernel >= 3 and self.kernel % 2 == 1, "model.kernel", self.kernel, "odd and 3 or more")
        good = len(self.dilations) > 0 and min(self.dilations) >= 1
        check(good, "model.dilations", self.dilations, "one or more numbers from 1")
        not_negative("model.attention", self.attention)
        below_one("model.dropout", self.dropout)
        below_one("model.ema", self.ema)


@config
class PixelCNNConfig(TrainConfig):
    """Settings of ``train-pixelcnn``."""

    data: CodesDataConfig = CodesDataConfig()
    model: PixelCNNModelConfig = PixelCNNModelConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        scored_by(self.checkpoint.best_metric, PIXELCNN_METRICS)

    @property
    def idle(self) -> frozenset[str]:
        """The settings that ``model.kind`` does not use."""
        return unused("model.", PixelCNNModelConfig, PRIORS[self.model.kind].uses)

    @property
    def kind_text(self) -> str:
        """The kind of prior."""
        return f"model.kind {self.model.kind}"
