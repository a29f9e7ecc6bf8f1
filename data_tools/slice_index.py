"""What a packed file says of each slice: its source, subject, position, split, label and window."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
import numpy.typing as npt

from data_tools.slice_format import COLUMNS, SPLITS, SliceGroup


@dataclass(frozen=True)
class SliceIndex:
    """What is known of each slice of a group: arrays with one entry a row."""

    source: npt.NDArray[np.uint32]
    subject: npt.NDArray[np.uint32]
    slice_index: npt.NDArray[np.int32]
    position: npt.NDArray[np.float32]
    split: npt.NDArray[np.uint8]
    label: npt.NDArray[np.int32]
    window: npt.NDArray[np.float64]
    noisy_air: npt.NDArray[np.bool_]


def read_index(file: h5py.File, group: SliceGroup) -> SliceIndex:
    """The index of a group, checked; ValueError for numbers that point nowhere, or whatever h5py finds damaged."""
    columns = {name: file[f"images/{group.name}/{name}"][:] for name in COLUMNS if name != "sha256"}
    noisy_air = file["sources/noisy_air"][:].astype(np.bool_)
    limits = {"source": len(noisy_air), "subject": len(file["subjects/name"]), "split": len(SPLITS)}
    limits["label"] = len(file["classes/name"])
    with np.errstate(over="ignore", invalid="ignore"):
        widths = np.diff(columns["window"].astype(np.float32))
    if not (np.isfinite(widths) & (widths != 0)).all():
        raise ValueError("a window that is not finite, or empty")
    for name, limit in limits.items():
        check_range(name, columns[name], limit)
    check_positions(columns["position"])
    return SliceIndex(**columns, noisy_air=noisy_air[columns["source"]])


def check_range(name: str, values: npt.NDArray[np.integer], limit: int) -> None:
    """ValueError unless all are below ``limit`` and at least 0; a label may be -1, which is none."""
    if not len(values):
        return
    least, most = values.min(), values.max()
    if most >= limit:
        raise ValueError(f"{name} {most} of {limit}")
    if least < (-1 if name == "label" else 0):
        raise ValueError(f"{name} {least}")


def check_positions(positions: npt.NDArray[np.float32]) -> None:
    """ValueError unless all lie in [0, 1]."""
    wrong = positions[~((positions >= 0) & (positions <= 1))]
    if len(wrong):
        raise ValueError(f"position {wrong[0]}, which is not in 0 to 1")
