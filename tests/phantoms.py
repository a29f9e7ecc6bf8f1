"""Small packed files and code files of made-up heads, written by the documented layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data_tools.slice_format import COLUMNS, FORMAT, SOURCE_COLUMNS, SPLITS, VERSION, content_digest
from vqvae_dist.data.codes import COLUMNS as CODE_COLUMNS
from vqvae_dist.data.codes_writer import LIBVER, CodesWriter, write_attributes
from vqvae_dist.hdf5_files import new_hdf5

Images = npt.NDArray[np.float64]

SHAPES = ((40, 40, "uint8"),)
SUBJECTS = ("train",) * 5 + ("validate", "test")


def head(height: int, width: int, subject: int, place: float) -> Images:
    """An ellipse with texture and two dark ventricles on black, (height, width) in [0, 1]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    rng = np.random.default_rng(subject)
    phases, tilt = rng.uniform(0, 6, 4), rng.uniform(-0.2, 0.2)
    tissue = 0.55 + 0.15 * np.sin(7 * x + phases[0] + place) * np.cos(6 * y + phases[1])
    tissue += 0.1 * np.sin(15 * (x + tilt * y) + phases[2]) * np.sin(13 * y + phases[3])
    for side in (-0.25, 0.25):
        tissue -= 0.4 * np.exp(-(((x - side) ** 2 + (y - 0.1) ** 2) / 0.02))
    inside = (x / (0.7 + 0.02 * (subject % 4))) ** 2 + (y / (0.85 - 0.1 * place)) ** 2 < 1
    return np.where(inside, tissue.clip(0.1, 1), 0.0)


def write_packed(
    path: Path,
    *,
    shapes: Sequence[tuple[int, int, str]] = SHAPES,
    subjects: Sequence[str] = SUBJECTS,
    slices: int = 4,
    noisy_air: bool = False,
) -> Path:
    """Write a packed file with ``slices`` slices of each of ``subjects`` (their splits), in each shape."""
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for height, width, dtype in shapes:
            top = 255 if dtype == "uint8" else 4000
            places = [(s, p) for s in range(len(subjects)) for p in range(slices)]
            images = np.stack([head(height, width, s, (p + 0.5) / slices) for s, p in places])
            noise = 0.05 * np.random.default_rng(0).random(images.shape) if noisy_air else 0.0
            pixels = np.round(top * (images + noise).clip(0, 1)).astype(dtype)
            _write_group(file, pixels, places, subjects, slices, top)
        for name, (kind, shape) in SOURCE_COLUMNS.items():
            value = noisy_air if name == "noisy_air" else 0
            file.create_dataset(f"sources/{name}", data=np.full((len(subjects), *shape), value, kind), fletcher32=True)
        names = np.array([f"case_{s:03d}".encode() for s in range(len(subjects))], h5py.string_dtype("utf-8", 8))
        for table in ("sources/path", "subjects/name", "classes/name"):
            file.create_dataset(table, data=names[:0] if table.startswith("classes") else names)
        about = {"format": FORMAT, "version": VERSION, "compression": "none", "subject_rules_json": "{}"}
        write_attributes(file, {**about, "digest": content_digest(file)})
    return path


def _write_group(
    file: h5py.File, pixels: npt.NDArray[Any], places: list[tuple[int, int]], splits: Sequence[str], n: int, top: int
) -> None:
    count, height, width = pixels.shape
    subject, place = np.array(places).T
    values = {
        "source": subject,
        "subject": subject,
        "slice_index": place,
        "position": (place + 0.5) / n,
        "split": np.array([SPLITS.index(split) for split in splits])[subject],
        "label": np.full(count, -1),
        "window": np.tile([0.0, top], (count, 1)),
        "sha256": [np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8) for image in pixels],
    }
    group = file.create_group(f"images/{height}x{width}_{pixels.dtype}")
    group.create_dataset("slices", data=pixels, chunks=(1, height, width), fletcher32=True)
    for name, (kind, _) in COLUMNS.items():
        group.create_dataset(name, data=np.asarray(values[name], kind), fletcher32=True)


def write_codes(path: Path, *, K: int = 16, grid: tuple[int, int] = (8, 8), maps: int = 24) -> Path:
    """Write a codes file of smooth random maps: three quarters to train on, the rest to validate."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0 : grid[0], 0 : grid[1]]
    waves = [np.sin(0.7 * x + a) + np.cos(0.6 * y + b) for a, b in rng.uniform(0, 6, (maps, 2))]
    codes = ((np.stack(waves) + 2) / 4 * (K - 1)).round().astype(np.uint16)
    columns = {name: np.zeros(maps, kind) for name, kind in CODE_COLUMNS.items()}
    columns["slice_row"][:] = np.arange(maps)
    columns["position"][:] = np.linspace(0, 1, maps)
    columns["split"][3 * maps // 4 :] = SPLITS.index("validate")
    columns["label"][:] = -1
    about = {"K": K, "downsample": 4, "views": 1, "vqvae_run_id": "none", "data_digest": "none"}
    with new_hdf5(path, libver=LIBVER) as (file, _):
        writer = CodesWriter(file, {**about, "vqvae_weights_sha256": "0" * 64})
        size = (4 * grid[0], 4 * grid[1])
        writer.append(f"{size[0]}x{size[1]}_uint8", size, codes, codes > K // 4, columns)
        writer.finish(rng.random((K, 4, 4)).astype(np.float32), ["case_000"], [])
    return path
