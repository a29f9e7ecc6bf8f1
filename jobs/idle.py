"""Settings that a sweep file gives, and that change nothing with the kind of model it chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from data_tools.console import warn
from vqvae_dist.config import TrainConfig
from vqvae_dist.config_io import Layer, idle_text, not_at_default


def warn_of_idle(configs: Sequence[TrainConfig], given: Mapping[str, Iterable[str]]) -> None:
    """Say which of the settings that a file gives, by the file, none of ``configs`` uses."""
    for source, keys in given.items():
        idle = [key for key in keys if all(key in config.idle for config in configs)]
        if idle:
            warn(f"{source}: {idle_text(configs[0], idle)}")


def set_by_base(layers: Sequence[Layer], kind: type[TrainConfig]) -> dict[str, list[str]]:
    """What a base file changes, by the file; nothing for a preset, which may be meant for another kind."""
    return {layer.source: not_at_default(layer, kind) for layer in layers if layer.source.endswith(".toml")}
