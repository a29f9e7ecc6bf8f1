"""``python -m vqvae_dist COMMAND``: train, evaluate, generate. Each command imports only what it needs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from tyro.conf import arg
from tyro.extras import literal_type_from_choices

from data_tools.arguments import parse
from data_tools.console import CommandError, UsageError, run_command, warn
from data_tools.flags import Switch, empty_means
from data_tools.program import Command, Program
from vqvae_dist.config import PixelCNNConfig, VQVAEConfig, config
from vqvae_dist.config_errors import sources
from vqvae_dist.config_io import (
    Layer,
    compose,
    flatten,
    idle_text,
    not_at_default,
    preset_layer,
    preset_names,
    preset_purposes,
    toml_layer,
)
from vqvae_dist.run_folder import Attempt, OtherRankError, PeerEndedError

PROGRAM = Program(
    "vqvae_dist",
    "vqvae-dist",
    {
        "train-vqvae": Command(
            "train a VQ-VAE on packed slices", "vqvae_dist.cli:TrainVQVAE", unread="vqvae_dist.cli:train_vqvae"
        ),
        "evaluate": Command(
            "score a trained VQ-VAE, and a prior, on a split", "vqvae_dist.inference.evaluate:evaluate"
        ),
        "reconstruct": Command(
            "pictures of originals, reconstructions and errors", "vqvae_dist.inference.reconstruct:reconstruct"
        ),
        "animate": Command("how reconstructions grew during training", "vqvae_dist.inference.animate:animate"),
        "extract-codes": Command(
            "encode packed slices to codes for a prior", "vqvae_dist.inference.extract_codes:extract_codes"
        ),
        "train-pixelcnn": Command(
            "train a PixelCNN prior on codes",
            "vqvae_dist.cli:TrainPixelCNN",
            unread="vqvae_dist.cli:train_pixelcnn",
        ),
        "generate": Command("draw new slices from a prior", "vqvae_dist.inference.generate:generate"),
        "likelihood-map": Command(
            "how unlikely each code of a slice is under a prior", "vqvae_dist.inference.likelihood:likelihood_map"
        ),
        "rerun": Command("train a finished run again, exactly", "vqvae_dist.training.rerun:rerun"),
    },
)

TRAININGS = ("train-vqvae", "train-pixelcnn", "rerun")


def preset_of(kind: type[Any]) -> Any:
    """How ``--preset`` stands in ``--help`` and in completions: the presets for ``kind``, or none."""
    purposes = preset_purposes(kind)
    text = "\n".join(["Settings to start from (optional).", *(f"{name}: {text}" for name, text in purposes.items())])
    choices, metavar = literal_type_from_choices(["", *purposes]), "{" + ",".join(purposes) + "}"
    return arg(constructor=choices, metavar=metavar, help=text, help_behavior_hint="")


@config
class TrainVQVAE(VQVAEConfig):
    """Train a VQ-VAE, or go on with it: the same command continues where it stopped."""

    preset: Annotated[str, preset_of(VQVAEConfig)] = ""

    config: Annotated[str, empty_means("none", metavar="FILE.toml")] = ""
    """A TOML file of settings, instead of or above the preset."""

    fresh: Switch = False
    """Start anew and keep the earlier run aside."""


@config
class TrainPixelCNN(PixelCNNConfig):
    """Train a PixelCNN prior, or go on with it: the same command continues where it stopped."""

    preset: Annotated[str, preset_of(PixelCNNConfig)] = ""

    config: Annotated[str, empty_means("none", metavar="FILE.toml")] = ""
    """A TOML file of settings, instead of or above the preset."""

    fresh: Switch = False
    """Start anew and keep the earlier run aside."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    status = run_command(partial(_main, handle_signals=True), arguments)
    sys.stdout.flush()
    return status


def _main(arguments: list[str], *, handle_signals: bool) -> int:
    if (status := PROGRAM.answer(arguments)) is not None:
        return status
    if handle_signals and arguments[0] in TRAININGS:
        stop_on_signals()
    try:
        state = run_command_line(arguments)
    except PeerEndedError as error:
        raise CommandError(str(error)) from error
    except OtherRankError as error:
        return error.status
    except UsageError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # its machine's first process was asked the same, and answers
            return error.status
        raise
    return 0 if state == "completed" else 1


def run_command_line(arguments: Sequence[str], *, attempt: Attempt | None = None) -> str:
    """Run a command in this process; return ``completed``, or ``stopped`` for a training that was asked to stop."""
    return PROGRAM.call(arguments, attempt=attempt) or "completed"


def train_vqvae(arguments: Sequence[str], *, attempt: Attempt | None) -> str:
    """Train a VQ-VAE with the settings that ``arguments`` give."""
    settings, fresh = _read_config(VQVAEConfig, TrainVQVAE, arguments, f"{PROGRAM.prog} train-vqvae")
    from vqvae_dist.training.vqvae import train_vqvae as train  # torch only now: a typo is told at once

    return train(settings, fresh=fresh, attempt=attempt)


def train_pixelcnn(arguments: Sequence[str], *, attempt: Attempt | None) -> str:
    """Train a prior with the settings that ``arguments`` give."""
    settings, fresh = _read_config(PixelCNNConfig, TrainPixelCNN, arguments, f"{PROGRAM.prog} train-pixelcnn")
    from vqvae_dist.training.pixelcnn import train_pixelcnn as train

    return train(settings, fresh=fresh, attempt=attempt)


def _read_config(kind: type[Any], command: type[Any], arguments: Sequence[str], prog: str) -> tuple[Any, bool]:
    """The settings of a training: preset, then file, then command line; and whether to start afresh."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default="")
    first.add_argument("--config", default="")
    try:
        chosen, _ = first.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        wanted = {"--preset": f"one of {', '.join(preset_names(kind))}", "--config": "a TOML file"}
        flag = str(error.argument_name)
        raise UsageError(f"{flag} takes {wanted[flag]}, got nothing (see {prog} --help)") from None
    layers = [preset_layer(chosen.preset, kind)] if chosen.preset else []
    layers += [toml_layer(Path(chosen.config))] if chosen.config else []
    base = compose(kind, *layers, Layer("command line", {}))
    names = [field.name for field in fields(kind)]
    below = command(**{name: getattr(base, name) for name in names})
    try:
        given = parse(command, arguments, prog=prog, default=below)
    except UsageError as error:
        raise _with_source(error, kind, layers, arguments) from None
    settings = kind(**{name: getattr(given, name) for name in names})
    needed = {"--data.path FILE.h5": settings.data.path, "--output-dir RUN": settings.output_dir}
    if missing := [flag for flag, value in needed.items() if not value]:
        raise UsageError(f"missing {', '.join(missing)} (see {prog} --help)")
    _warn_of_idle(settings, layers[bool(chosen.preset) :], arguments)  # a preset may be meant for another kind
    return settings, given.fresh


def _with_source(error: UsageError, kind: type[Any], layers: Sequence[Layer], arguments: Sequence[str]) -> UsageError:
    """The error with the preset or file that its setting comes from, and the flags that do not go with it."""
    if str(error).split()[0] not in flatten(kind()):  # about a flag, not about a value
        return error
    given = [(layer.source, flatten(layer.values)) for layer in layers]
    flags = [(f"--{key.replace('_', '-')}", {key: ""}) for key in given_keys(arguments)]
    found = sources(str(error), [*given, *flags])
    return UsageError(f"{' with '.join(found)}: {error}") if {layer.source for layer in layers} & set(found) else error


def given_keys(arguments: Sequence[str]) -> list[str]:
    """The settings that a command line gives, by their dotted names."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    return [flag.removeprefix("--").replace("-", "_") for flag in flags]


def _warn_of_idle(settings: Any, layers: Sequence[Layer], arguments: Sequence[str]) -> None:
    """Say which settings the chosen kind ignores: those given here, and those that a file sets to another value."""
    in_files = [key for layer in layers for key in not_at_default(layer, type(settings))]
    text = idle_text(settings, [*in_files, *given_keys(arguments)])
    if text and os.environ.get("RANK", "0") == "0":
        warn(text)


def stop_on_signals() -> None:
    """Let the first Ctrl-C or SIGTERM stop a training at its next step, and a second Ctrl-C at once."""

    from vqvae_dist.training.stop import request_stop

    def stop(number: int, _: FrameType | None) -> None:
        request_stop()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
