"""The one place where images on [0, 1] become 8-bit pictures: true to scale, lossless."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

from vqvae_dist.files import write_file

Picture = npt.NDArray[np.uint8]


def to_uint8(images: Tensor) -> Tensor:
    """Round images on [0, 1] to 0..255; what lies outside is clipped."""
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def grid_picture(images: Tensor, *, columns: int) -> Picture:
    """Lay (B, 1, H, W) images on [0, 1] out in rows of ``columns``, as gray levels (h, w); no scaling."""
    return np.asarray(make_grid(to_uint8(images), nrow=columns, padding=2)[0].numpy())


def comparison_picture(originals: Tensor, reconstructions: Tensor) -> Picture:
    """Originals (B, 1, H, W) in one row above their reconstructions in another."""
    return grid_picture(torch.cat([originals.cpu().float(), reconstructions.cpu().float()]), columns=len(originals))


def save_picture(path: Path, picture: Picture, about: Mapping[str, str] | None = None) -> None:
    """Write a picture, whole or not at all; the format follows the suffix, JPEG at its best quality.

    ``about`` goes into a PNG as text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), path.suffix[1:].upper())
    content = io.BytesIO()
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    if about:
        options["pnginfo"] = PngInfo()
        for key, text in about.items():
            options["pnginfo"].add_text(key, text)
    Image.fromarray(picture).save(content, kind, **options)
    write_file(path, content.getvalue())
