"""Profiles: TOML files that describe a machine or a cluster, looked up by name or path."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

from data_tools.console import CommandError, UsageError
from data_tools.hints import did_you_mean
from jobs.config import Profile, read_strictly
from vqvae_dist.toml_files import read_toml

USER_FOLDER = Path("~/.config/vqvae-jobs/profiles")


def read_profile(text: str) -> Profile:
    """Read a profile from a path, or by name from ./slurm/profiles, the user's folder, or the package."""
    path = _find(text)
    profile = read_strictly(Profile, read_toml(path), str(path))
    if profile.slurm_conf == "auto":
        return replace(profile, slurm_conf=_one_machine_conf(path))
    return profile


def with_resources(profile: Profile, resources: Mapping[str, object], source: str) -> Profile:
    """The profile with some of its keys set anew, checked like a file."""
    return read_strictly(Profile, {**asdict(profile), **resources}, source) if resources else profile


def profile_folders() -> list[Path]:
    """Where profiles are looked for by name, first match first."""
    package = Path(str(files("jobs"))) / "profiles"
    return [Path("slurm/profiles"), USER_FOLDER.expanduser(), package]


def _find(text: str) -> Path:
    if text.endswith(".toml") or "/" in text:
        return Path(text)  # a missing file is named by the reader
    for folder in profile_folders():
        if (folder / f"{text}.toml").is_file():
            return folder / f"{text}.toml"
    known = sorted({path.stem for folder in profile_folders() for path in folder.glob("*.toml")})
    raise UsageError(f"no profile {text!r}; there are {', '.join(known)}{did_you_mean(text, known)}")


def _one_machine_conf(profile: Path) -> str:
    """The slurm.conf of the cluster that slurm/one_machine/start.sh started, or that the environment names."""
    if os.environ.get("SLURM_CONF"):
        return os.environ["SLURM_CONF"]
    for folder in (profile.resolve().parent.parent, Path("slurm").resolve()):
        script = folder / "one_machine" / "env.sh"
        if script.is_file():
            asked = ["bash", "-c", '. "$1" && printf %s "$SLURM_CONF"', "bash", str(script)]
            return subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    raise CommandError(
        f"{profile}: no one-machine Slurm is running; start it with slurm/one_machine/start.sh, or set SLURM_CONF"
    )
