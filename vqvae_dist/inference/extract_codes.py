"""``extract-codes``: packed slices to the codes that a prior learns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from data_tools.console import CommandError, UsageError, progress, say, warn
from data_tools.flags import PackedPath, RunPath, Switch
from data_tools.slicefile import SPLITS, SliceGroup, SliceReader
from data_tools.staging import staged
from vqvae_dist.data.codes import COLUMNS, CodesReader
from vqvae_dist.data.codes_digest import check_digest
from vqvae_dist.data.codes_writer import LIBVER, CodesWriter
from vqvae_dist.files import fsync_folder, naming
from vqvae_dist.hdf5_files import new_hdf5
from vqvae_dist.inference.load import LoadedVQVAE, load_vqvae
from vqvae_dist.inference.output import claim
from vqvae_dist.inference.seeds import check_seed
from vqvae_dist.inference.slices import PIXELS_AT_ONCE
from vqvae_dist.inference.views import View, drawn_view
from vqvae_dist.metrics.codebook import foreground_cells
from vqvae_dist.metrics.image import foreground_mask


def extract_codes(
    *, run: RunPath, data: PackedPath, output: Path, views: int = 1, seed: int = 0, overwrite: Switch = False
) -> None:
    """Encode every slice of a packed file with a trained VQ-VAE.

    Args:
        run: Run folder of the VQ-VAE; its best weights encode.
        data: Packed slices.
        output: The codes file to write.
        views: How often each training slice is encoded: once as it is, else shifted, mirrored or of another gamma.
        seed: Of the further views.
        overwrite: Replace a codes file that is there.
    """
    if views < 1:
        raise UsageError(f"--views must be 1 or more, got {views}")
    check_seed(seed)
    vqvae, reader = load_vqvae(run), SliceReader(data)
    reader.check_digest()  # which the codes are known by
    attributes = identity(vqvae, reader, views, seed)
    if not overwrite and output.is_file() and _claims_to_hold(output, attributes):
        if _is_whole(output):
            say(f"{output}: holds these codes already")
            return
        warn(f"{output}: holds these codes, but damaged; they are made again")
        overwrite = True
    claim([output], overwrite=overwrite, inputs=[data])
    with naming(output), staged(output) as folder:
        count = encode_all(folder / output.name, vqvae, reader, attributes)
        (folder / output.name).replace(output)
        fsync_folder(output.parent)
    say(f"{output}: codes of {count} slices and views, K = {attributes['K']}")


def identity(vqvae: LoadedVQVAE, reader: SliceReader, views: int, seed: int) -> dict[str, int | str]:
    """The attributes of a codes file, from which its content follows."""
    return {
        "K": vqvae.config.codebook_size,
        "downsample": vqvae.config.downsample,
        "views": views,
        "view_seed": seed,
        "vqvae_run_id": str(vqvae.description["run_id"]),
        "vqvae_weights_sha256": str(vqvae.description["weights_sha256"]),
        "data_digest": reader.digest,
    }


def _claims_to_hold(path: Path, attributes: dict[str, int | str]) -> bool:
    with contextlib.suppress(CommandError):
        return attributes.items() <= CodesReader(path).attributes.items()
    return False


def _is_whole(path: Path) -> bool:
    with contextlib.suppress(CommandError):
        check_digest(CodesReader(path))
        return True
    return False


class EncodingBatch(NamedTuple):
    """Views of slices of one group that are encoded at once."""

    group: SliceGroup
    rows: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    """Which view of each row; 0 is the slice as it is."""
    views: list[View]


def planned(reader: SliceReader, *, views: int, seed: int) -> Iterator[EncodingBatch]:
    """Every slice in file order, training slices with all their views."""
    for place, group in enumerate(reader.groups):
        copies = _copies(reader, group, views)
        rows = np.repeat(np.arange(group.count), copies)
        numbers = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
        for start in range(0, len(rows), _at_once(group)):
            part, which = (array[start : start + _at_once(group)] for array in (rows, numbers))
            drawn = [drawn_view(seed, place, int(r), int(n), views) for r, n in zip(part, which, strict=True)]
            yield EncodingBatch(group, part, which, drawn)


def _copies(reader: SliceReader, group: SliceGroup, views: int) -> npt.NDArray[np.int64]:
    return np.where(reader.index(group.name).split == SPLITS.index("train"), views, 1)


def _at_once(group: SliceGroup) -> int:
    return max(1, PIXELS_AT_ONCE // (group.height * group.width))


def encode_all(path: Path, vqvae: LoadedVQVAE, reader: SliceReader, attributes: dict[str, int | str]) -> int:
    """Encode all batches into a new file; return the number of code maps."""
    K, d = vqvae.config.codebook_size, vqvae.config.downsample
    patch_sums, patch_counts = torch.zeros(K, d * d, dtype=torch.float64), torch.zeros(K, dtype=torch.float64)
    views, seed = int(attributes["views"]), int(attributes["view_seed"])
    maps = [(int(_copies(reader, group, views).sum()), _at_once(group)) for group in reader.groups]
    total = sum(-(-count // size) for count, size in maps)
    with new_hdf5(path, libver=LIBVER) as (file, check_disk):
        writer = CodesWriter(file, attributes)
        for batch in progress(planned(reader, views=views, seed=seed), total=total, label="encoding"):
            images = _images(reader, batch)
            codes = _encoded(vqvae, images)
            patch_sums.index_add_(0, codes.flatten(), patches_of(images, d).double())
            patch_counts += codes.flatten().bincount(minlength=K)
            foreground = _foreground(reader, batch, images, d)
            size = batch.group.height, batch.group.width
            writer.append(batch.group.name, size, codes.numpy(), foreground, _columns(reader, batch))
            check_disk()
        patches = (patch_sums / patch_counts.clamp(min=1)[:, None]).view(K, d, d)
        writer.finish(patches.float().numpy(), reader.subjects, reader.classes)
    return sum(count for count, _ in maps)


def _images(reader: SliceReader, batch: EncodingBatch) -> Tensor:
    """(b, 1, H, W) of the batch."""
    name = batch.group.name
    images = [view.of(reader.scaled(name, int(row))) for row, view in zip(batch.rows, batch.views, strict=True)]
    return torch.from_numpy(np.stack(images)[:, None])


@torch.inference_mode()
def _encoded(vqvae: LoadedVQVAE, images: Tensor) -> Tensor:
    return vqvae.model.encode(images.to(vqvae.device)).cpu()


def patches_of(images: Tensor, d: int) -> Tensor:
    """The pixels under each cell, in the order of flattened code maps: (B, 1, H, W) -> (B * h * w, d * d)."""
    H, W = images.shape[-2:]
    padded = F.pad(images, (0, -W % d, 0, -H % d))
    return F.unfold(padded, d, stride=d).transpose(1, 2).reshape(-1, d * d)


def _foreground(reader: SliceReader, batch: EncodingBatch, images: Tensor, d: int) -> npt.NDArray[np.bool_]:
    noisy = reader.index(batch.group.name).noisy_air[batch.rows]
    masks = [foreground_mask(image, bool(air)) for image, air in zip(images[:, 0].numpy(), noisy, strict=True)]
    return np.stack([foreground_cells(mask, d) for mask in masks])


def _columns(reader: SliceReader, batch: EncodingBatch) -> dict[str, npt.NDArray[np.generic]]:
    index = reader.index(batch.group.name)
    own = {
        "slice_row": batch.rows,
        "view": batch.numbers,
        "flipped": np.array([view.flipped for view in batch.views]),
    }
    return own | {name: getattr(index, name)[batch.rows] for name in COLUMNS if name not in own}
