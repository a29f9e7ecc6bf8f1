"""The settings of a training, as a tree of frozen dataclasses; the same dotted name everywhere.

``optim.lr`` here is ``--optim.lr`` on the command line, ``[optim] lr`` in a TOML file, ``"optim.lr"`` in a
sweep, in ``config.json`` and in W&B. Trees are read by ``config_io``, once, and never changed after.
"""

from __future__ import annotations

from vqvae_dist.config_base import Split, check, config
from vqvae_dist.config_pixelcnn import CodesDataConfig, PixelCNNConfig, PixelCNNModelConfig
from vqvae_dist.config_quantizer import QuantizerConfig
from vqvae_dist.config_training import (
    CheckpointConfig,
    OptimConfig,
    PrecisionConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrackingConfig,
    TrainConfig,
    to_steps,
)
from vqvae_dist.config_vqvae import DataConfig, LossConfig, VQVAEConfig, VQVAEModelConfig

__all__ = [
    "RESULT_VERSION",
    "STAGES",
    "CheckpointConfig",
    "CodesDataConfig",
    "DataConfig",
    "LossConfig",
    "OptimConfig",
    "PixelCNNConfig",
    "PixelCNNModelConfig",
    "PrecisionConfig",
    "QuantizerConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "Split",
    "TrackingConfig",
    "TrainConfig",
    "VQVAEConfig",
    "VQVAEModelConfig",
    "check",
    "config",
    "to_steps",
]

RESULT_VERSION = 1
"""Part of every fingerprint; raised by hand when the same settings no longer train to the same result."""

STAGES: dict[str, type[VQVAEConfig] | type[PixelCNNConfig]] = {
    "train-vqvae": VQVAEConfig,
    "train-pixelcnn": PixelCNNConfig,
}
