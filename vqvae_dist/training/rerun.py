"""Training a run again from its own config.json, and saying whether the result can be expected to be bit-equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.console import CommandError, UsageError, say, warn
from data_tools.slicefile import SliceReader
from vqvae_dist.config import STAGES, PixelCNNConfig, VQVAEConfig
from vqvae_dist.config_io import Layer, compose, merge
from vqvae_dist.run_folder import RunFolder
from vqvae_dist.training.libraries import library_versions
from vqvae_dist.training.runtime import code_version


def rerun(run: Path, /, *, output_dir: Path) -> str:
    """Train the run in folder RUN again into ``output_dir``, from its logged settings.

    Every mismatch of code, libraries, processes and threads is named; other data is an error. With none, the
    result on the same hardware is equal bit for bit.
    """
    stored = RunFolder(run).read_config()
    if output_dir.resolve() == run.resolve():
        raise UsageError(f"--output-dir {output_dir} is the run itself; give another folder")
    settings = {**stored["settings"], "output_dir": str(output_dir)}
    config = compose(STAGES[stored["stage"]], Layer(str(run / "config.json"), settings))
    if list(config.milestones) != stored["resolved"]["milestones"]:  # shares of the steps it was first started with
        settings = merge(settings, {"optim": {name: stored["resolved"][name] for name in ("milestones", "warmup")}})
        config = compose(STAGES[stored["stage"]], Layer(str(run / "config.json"), settings))
    for mismatch in mismatches(stored):
        warn(mismatch)
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
    """Differences between a run's last attempt and this process that may change the result, a line each."""
    last = stored["attempts"][-1]
    now = library_versions()
    found = [
        f"{name} {old} then, {now.get(name)} now" for name, old in last["libraries"].items() if old != now.get(name)
    ]
    code = code_version()
    if last["code"] != code or "-dirty" in code:
        found.append(f"code {last['code'] or 'unknown'} then, {code or 'unknown'} now")
    return found
