"""Whether slices that are scored were trained on: the same slices may have been packed again, with other splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.console import CommandError, warn
from data_tools.slicefile import SPLITS, SliceReader
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.inference.load import LoadedPixelCNN, LoadedVQVAE
from vqvae_dist.run_folder import RunFolder


def slices_trained_on(run: Path, vqvae: LoadedVQVAE, reader: SliceReader, split: str) -> int | None:
    """How many slices of a split have the pixels of one that the VQ-VAE was trained on.

    None where the file that it was trained on is not where the run's config.json says. Holds a checksum for each slice
    of the split, whatever the size of the other file.
    """
    try:
        data = _data_settings(run)
        scored = Counter(_checksums(reader, split))
        with SliceReader(data["path"], digest=vqvae.description.get("data_digest")) as trained:
            found = {pixels for pixels in _checksums(trained, data["train_split"]) if pixels in scored}
    except (CommandError, KeyError):
        return None
    return sum(scored[pixels] for pixels in found)


def warn_unless_held_out(
    run: Path, vqvae: LoadedVQVAE, reader: SliceReader, split: str, trained_on: int | None
) -> None:
    """Say aloud, in a line, where a split that is not asked for as one that was trained on holds nothing out."""
    same = reader.digest == vqvae.description.get("data_digest")
    if split == "all" or (same and (split == "train" or not trained_on)):
        return
    told = str(reader.path) if same else f"{reader.path}: not the file that {run} was trained on"
    if trained_on:
        total = sum(len(reader.rows(group.name, split)) for group in reader.groups)
        found = f"{trained_on} of the {total} slices of its split {split} were trained on"
        warn(f"{told}: {found} (data.train_split of {run})" if same else f"{told}, and {found}")
    else:
        warn(f"{told}; subjects of its split {split} may have been trained on")


def warn_unless_held_out_of_prior(
    run: Path, prior: LoadedPixelCNN, vqvae: LoadedVQVAE, reader: SliceReader, split: str
) -> None:
    """As ``warn_unless_held_out``, of a prior whose codes are of neither this file nor the VQ-VAE's."""
    packed = _packed_digest(run, prior)
    if split != "all" and packed not in (None, reader.digest, vqvae.description.get("data_digest")):
        told = f"{reader.path}: not the file that the codes of {run} are of"
        warn(f"{told}; subjects of its split {split} may have been trained on")


def _packed_digest(run: Path, prior: LoadedPixelCNN) -> str | None:
    """The packed file whose codes a prior learned, by its digest; None where the codes are gone."""
    try:
        codes = CodesReader(_data_settings(run)["path"], digest=prior.description.get("data_digest"))
        return str(codes.attributes["data_digest"])
    except (CommandError, KeyError):
        return None


def _data_settings(run: Path) -> dict[str, Any]:
    return dict(RunFolder(run).read_config()["settings"]["data"])


def _checksums(reader: SliceReader, split: str) -> Iterator[bytes]:
    """The SHA-256 of the pixels of each slice of a split."""
    for group in reader.groups:
        for splits, checksums in reader.blocks(group.name, "split", "sha256"):
            yield from map(bytes, checksums if split == "all" else checksums[splits == SPLITS.index(split)])
