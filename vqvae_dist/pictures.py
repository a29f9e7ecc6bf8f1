"""The one place where images on [0, 1] become 8-bit pictures: true to scale, lossless."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
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


def save_picture(path: Path, picture: Picture) -> None:
    """Write a picture, whole or not at all; the format follows the suffix, JPEG at its best quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), path.suffix[1:].upper())
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind, **({"quality": 95} if kind == "JPEG" else {}))
    write_file(path, content.getvalue())
