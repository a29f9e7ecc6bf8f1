"""Training a run again from its own config.json, and saying whether the result can be expected to be bit-equal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from data_tools.console import CommandError, UsageError, say, warn
from data_tools.slicefile import SliceReader
from vqvae_dist.config import STAGES, PixelCNNConfig, TrainConfig, VQVAEConfig
from vqvae_dist.config_io import Layer, compose, fingerprint, flatten, merge
from vqvae_dist.run_folder import Attempt, RunFolder
from vqvae_dist.training.identity import attempt_record, believed_config
from vqvae_dist.training.logged_config import read_logged_config
from vqvae_dist.training.runtime import default_threads


def rerun(run: Annotated[Positional[Path], arg(metavar="RUN")], /, *, output_dir: Path) -> str:
    """Train a run again into ``output_dir``, from its logged settings.

    Every mismatch of code, libraries, processes and threads is named; other data is an error. With none, the result
    on the same hardware is equal bit for bit.

    Args:
        run: Its folder, or a file with the config that W&B holds of it: ``config.yaml``, or JSON of
            ``wandb.Api().run(PATH).config``.
        output_dir: The new run's folder.
    """
    stored = read_logged_config(run) if run.is_file() else RunFolder(run).read_config()
    source = run if run.is_file() else RunFolder(run).config_file
    if output_dir.resolve() == run.resolve():
        raise UsageError(f"--output-dir {output_dir} is the run itself; give another folder")
    config, resolved = believed_config(source, stored), stored["resolved"]
    changes: dict[str, Any] = {"output_dir": str(output_dir)}
    if (list(config.milestones), config.warmup) != (resolved["milestones"], resolved["warmup"]):
        changes["optim"] = {name: resolved[name] for name in ("milestones", "warmup")}  # shares of the first steps
    config = compose(STAGES[stored["stage"]], Layer(str(source), merge(stored["settings"], changes)))
    _refuse_other(output_dir, config, stored["data_digest"])
    for mismatch in mismatches(stored):
        warn(mismatch)
    ended = _train(config, stored)
    _name_other_choices(stored, output_dir)
    return ended


def _refuse_other(output_dir: Path, config: TrainConfig, digest: str) -> None:
    """UsageError where ``output_dir`` holds a run that is not this one, trained so far: it would be trained on."""
    there = RunFolder(output_dir)
    if there.config_file.is_file() and there.read_config()["fingerprint"] != fingerprint(config, digest):
        raise UsageError(f"--output-dir {output_dir} holds another run; give another folder")


def _train(config: TrainConfig, stored: dict[str, Any]) -> str:
    if isinstance(config, VQVAEConfig):
        from vqvae_dist.training.vqvae import train_vqvae

        _check_data(config.data.path, SliceReader(config.data.path).digest, stored)
        return train_vqvae(config)
    assert isinstance(config, PixelCNNConfig)
    from vqvae_dist.data.codes import CodesReader
    from vqvae_dist.training.pixelcnn import train_pixelcnn

    _check_data(config.data.path, CodesReader(config.data.path).digest, stored)
    return train_pixelcnn(config)


def _check_data(path: str, digest: str, stored: dict[str, Any]) -> None:
    if digest != stored["data_digest"]:
        raise CommandError(f"{path}: not the data of that run (digest {digest[:12]}, was {stored['data_digest'][:12]})")
    say(f"{path}: the same data")


def mismatches(stored: dict[str, Any]) -> list[str]:
    """Differences between a run's attempts and this process that may change the result, a line each."""
    default_threads()
    now = flatten(attempt_record(Attempt(), int(os.environ.get("WORLD_SIZE", "1"))))
    attempts = [flatten(attempt) for attempt in stored["attempts"]] or [{}]
    found = []
    for name in [*(key for key in now if key.startswith("libraries.")), "processes", "threads", "device"]:
        then = {str(attempt.get(name, UNKNOWN)): None for attempt in attempts}  # in the order of the attempts
        if list(then) != [str(now[name])]:
            found.append(f"{name.removeprefix('libraries.')} {' and '.join(then)} then, {now[name]} now")
    if micro := stored["resolved"].get("micro_batch_size"):
        found.append(f"micro-batches of {micro} then, after memory ran out; those of the settings now")
    codes = {attempt.get("code") or UNKNOWN: None for attempt in attempts}
    if list(codes) != [now["code"]] or "-dirty" in now["code"]:
        found.append(f"code {' and '.join(codes)} then, {now['code']} now")
    if earlier := attempts[0].get("resume_step"):  # of W&B, which holds the newest attempt only
        found.append(f"it went on from step {earlier} then, and of the attempts before that nothing is known")
    return found


UNKNOWN = "unknown"
"""What an attempt does not say of itself."""


def _name_other_choices(stored: dict[str, Any], output_dir: Path) -> None:
    """Say where what was ``auto`` came to something else on this machine."""
    chosen = RunFolder(output_dir).read_config()["resolved"]
    for name, old in stored["resolved"].items():
        if name in chosen and chosen[name] != old:
            warn(f"{name} {old} then, {chosen[name]} now: not bit-equal")
