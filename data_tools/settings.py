"""The settings of ``pack``, as the command line gives them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from data_tools.choices import Axis, Compression, Window, can_scale
from data_tools.flags import Switch

MAX_PHANTOM_SIDE = 4096
"""Of a phantom's slice: drawing it takes some gigabytes."""

WORKERS_A_CORE = 8
"""More than a core has to do, for slices on a slow disk; beyond, processes only take memory."""


@dataclass(frozen=True)
class PhantomSettings:
    """How many slices are made, and how large."""

    out_dir: Annotated[Positional[Path], arg(metavar="OUT_DIR")]
    """Folder to make; new or empty."""

    subjects: int = 24
    """How many; a sixth of them, at least one, go to test."""

    slices: int = 8
    """Of each subject, from low to high."""

    size: int = 64
    """Sides of a slice in pixels."""

    seed: int = 0
    """The same seed makes the same slices."""

    def __post_init__(self) -> None:
        for name, least in (("subjects", 1), ("slices", 1), ("size", 16), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} is at least {least}, got {getattr(self, name)}")
        if self.size > MAX_PHANTOM_SIDE:
            raise ValueError(f"--size is at most {MAX_PHANTOM_SIDE}, got {self.size}")


@dataclass(frozen=True)
class PackSettings:
    """What is packed, and how."""

    src: Annotated[Positional[tuple[Path, ...]], arg(metavar="SRC...", help_behavior_hint="(required)")]
    """Folders or files to pack. Folders named train, val, validate, validation or test give the splits, as do
    training, valid and testing."""

    output: Path
    """The file to write, e.g. brain.h5; a report goes beside it as brain.report.json."""

    axis: Axis = "auto"
    """Plane of the slices of NIfTI volumes; auto is axial by the affine."""

    volume: int = 0
    """Which volume of 4-D NIfTI files is taken."""

    min_foreground: float = 0.01
    """Slices with a smaller share of pixels above 2 % of the window are left out; 0 keeps all."""

    subjects: Annotated[Path | None, arg(metavar="CSV", help_behavior_hint="(default: none)")] = None
    """CSV with: path glob, subject[, class]."""

    subject_pattern: Annotated[str | None, arg(metavar="REGEX", help_behavior_hint="(default: none)")] = None
    """Regular expression searched in relative paths; its first group (or all of it) names the subject."""

    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of subjects for train, validate and test where no folder decides."""

    window: Annotated[Window | None, arg(metavar="LOW HIGH", help_behavior_hint="(default: by volume)")] = None
    """Real values that become 0 and 1, for every volume."""

    compression: Compression = "none"
    """Of the pixels in the file. lz4 and zstd are smaller and slower to read."""

    workers: int = 0
    """Processes that decode; 0: one a CPU core."""

    strict: Switch = False
    """Fail if any file cannot be read."""

    overwrite: Switch = False
    """Replace the output if it exists."""

    def __post_init__(self) -> None:
        if not self.src:
            raise ValueError("nothing to pack: give at least one folder or file")
        if self.volume < 0:
            raise ValueError(f"--volume counts from 0, got {self.volume}")
        if not 0 <= self.min_foreground < 1:
            raise ValueError(f"--min-foreground is a share of at least 0 and below 1, got {self.min_foreground}")
        if min(self.split_shares) < 0 or not self.split_shares[0] or abs(sum(self.split_shares) - 1) > 1e-6:
            shares = " ".join(map(str, self.split_shares))
            raise ValueError(f"--split-shares are three shares that sum to 1, the first above 0; got {shares}")
        if self.window is not None and not (self.window[0] < self.window[1] and can_scale(self.window)):
            got = f"got {self.window[0]} {self.window[1]}"
            raise ValueError(f"--window needs LOW below HIGH, different and finite as 32-bit floats, {got}")
        most = WORKERS_A_CORE * usable_cores()
        if not 0 <= self.workers <= most:
            raise ValueError(f"--workers is 0 (one a core) to {most} ({WORKERS_A_CORE} a core), got {self.workers}")

    @property
    def processes(self) -> int:
        """How many processes decode."""
        return self.workers or usable_cores()

    @property
    def report(self) -> Path:
        """Where the report goes."""
        output = self.output
        return output.with_name(f"{output.stem if output.suffix in HDF5_SUFFIXES else output.name}.report.json")


HDF5_SUFFIXES = (".h5", ".hdf5")


def usable_cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))
