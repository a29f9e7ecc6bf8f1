"""A small codes file, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vqvae_dist.data.codes_writer import LIBVER, CodesWriter
from vqvae_dist.hdf5_files import new_hdf5

K = 20


def columns(count: int, **given: Any) -> dict[str, Any]:
    defaults = {
        "slice_row": np.arange(count),
        "view": np.zeros(count),
        "flipped": np.zeros(count),
        "subject": np.arange(count) % 2,
        "slice_index": np.arange(count) % 2,
        "position": np.linspace(0, 1, count),
        "split": np.arange(count) % 3,
        "label": np.full(count, -1),
    }
    return {**defaults, **given}


def write(path: Path, *, parts: int = 1, weights: str = "ab", **given: Any) -> Path:
    """12 maps of 4x5 and 6 of 3x3, appended in ``parts``."""
    about = {"K": K, "downsample": 4, "views": 1, "vqvae_run_id": "run", "data_digest": "d"}
    with new_hdf5(path, libver=LIBVER) as (file, _):
        writer = CodesWriter(file, {**about, "vqvae_weights_sha256": weights})
        rng = np.random.default_rng(0)
        for slices, size, shape in (("15x18_uint8", (15, 18), (12, 4, 5)), ("12x12_uint8", (12, 12), (6, 3, 3))):
            codes, foreground = rng.integers(0, K, shape), rng.random(shape) < 0.5
            about_maps = columns(shape[0], **given)
            for part in np.array_split(np.arange(shape[0]), parts):
                chosen = {name: values[part] for name, values in about_maps.items()}
                writer.append(slices, size, codes[part], foreground[part], chosen)
        writer.finish(np.zeros((K, 4, 4), np.float32), ["anna", "bert"], ["well", "ill"])
    return path
