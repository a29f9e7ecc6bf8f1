"""Image codecs on the slices that a VQ-VAE is scored on: their bytes without the container, their errors alike."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_tools.console import progress
from data_tools.slicefile import SliceReader
from vqvae_dist.inference.slices import batches, count, rows_of_split
from vqvae_dist.metrics.image import SliceScores, foreground_mask, score_slice


class Codec(NamedTuple):
    """A format of Pillow."""

    format: str
    options: Callable[[int], dict[str, Any]]
    """Of a quality."""
    qualities: tuple[int, ...]
    payload: Callable[[bytes], int]
    """Bytes of the coded picture, without the container around it."""


def mean_of(scores: Sequence[SliceScores], name: str) -> float | None:
    """Average one figure over the slices that have it; None where none has."""
    values = [value for score in scores if (value := getattr(score, name)) is not None]
    return float(np.mean(values)) if values else None


def webp_payload(file: bytes) -> int:
    """Bytes in the VP8 chunks of a RIFF file."""
    assert file[:4] == b"RIFF"
    total, at = 0, 12
    while at + 8 <= len(file):
        size = int.from_bytes(file[at + 4 : at + 8], "little")
        total += size if file[at : at + 4] in (b"VP8 ", b"VP8L") else 0
        at += 8 + size + size % 2
    return total


def mdat_payload(file: bytes) -> int:
    """Bytes in the media data boxes of an ISO base media file (AVIF)."""
    return sum(len(content) for kind, content in boxes(file) if kind == b"mdat")


def boxes(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The outermost boxes: their kind and content."""
    at = 0
    while at + 8 <= len(file):
        size, header = int.from_bytes(file[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(file[at + 8 : at + 16], "big"), 16
        size = size or len(file) - at
        yield file[at + 4 : at + 8], file[at + header : at + size]
        at += size


CODECS = {
    "avif": Codec(
        "AVIF", lambda q: {"quality": q, "subsampling": "4:0:0", "speed": 4}, (20, 35, 45, 55, 65, 75, 85), mdat_payload
    ),
    "webp": Codec("WEBP", lambda q: {"quality": q, "method": 6}, (5, 20, 40, 60, 75, 85, 92), webp_payload),
    "jpeg2000": Codec(
        "JPEG2000",
        lambda q: {"no_jp2": True, "irreversible": True, "quality_mode": "dB", "quality_layers": [q]},
        (28, 31, 33, 35, 37, 40, 43),
        len,  # a bare codestream has no container
    ),
}
"""Grey pictures, the slower and better settings of each; JPEG 2000's quality is its PSNR in dB."""


def points(codec: Codec, reader: SliceReader, split: str) -> list[dict[str, Any]]:
    """Rate and quality over a split at each quality setting, each slice coded alone."""
    chosen = rows_of_split(reader, split)
    total = count(chosen) * len(codec.qualities)
    scores: dict[int, list[SliceScores]] = {quality: [] for quality in codec.qualities}
    bits, pixels = dict.fromkeys(codec.qualities, 0), 0
    work = (
        (reader.scaled(batch.group.name, int(row)), bool(reader.index(batch.group.name).noisy_air[row]), quality)
        for batch in batches(reader, chosen)
        for row in batch.rows
        for quality in codec.qualities
    )
    for image, noisy, quality in progress(work, total=total, label=codec.format):
        size, decoded = coded(codec, image, quality)
        bits[quality] += 8 * size
        pixels += image.size if quality == codec.qualities[0] else 0
        scores[quality].append(score_slice(image, decoded, foreground_mask(image, noisy)))
    return [
        {"quality": quality, "bpp": bits[quality] / pixels,
         **{name: mean_of(scores[quality], name) for name in ("ssim_foreground", "ssim", "psnr")}}
        for quality in codec.qualities
    ]  # fmt: skip


def coded(codec: Codec, image: NDArray[np.floating], quality: int) -> tuple[int, NDArray[np.float64]]:
    """Payload bytes of a slice (H, W) on [0, 1] and what is decoded from them, through 8 bits."""
    file = io.BytesIO()
    Image.fromarray(np.round(255 * image).astype(np.uint8)).save(file, codec.format, **codec.options(quality))
    decoded = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("L")) / 255
    return codec.payload(file.getvalue()), decoded
