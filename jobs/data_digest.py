"""Which content a file that is trained on says it has: ``data_digest``."""

from __future__ import annotations

from pathlib import Path

import h5py

from data_tools.console import CommandError, first_line
from data_tools.own_datasets import own_attributes
from data_tools.slice_format import DAMAGE
from data_tools.slicefile import SliceReader

MADE_BY = "codes are made by: python -m vqvae_dist extract-codes"


def data_digest(stage: str, data: Path) -> str:
    """The digest written into a data file when it was made; CommandError if it is missing or not of our format."""
    if stage == "train-vqvae":
        with SliceReader(data) as reader:
            return reader.digest
    try:
        with h5py.File(data, "r", locking=False) as file:
            about = own_attributes(file)
    except DAMAGE as error:
        what = f"not a file of codes ({first_line(error)})" if data.exists() else "no such file"
        raise CommandError(f"{data}: {what}; {MADE_BY}") from None
    if not {"K", "digest"} <= about.keys():  # packed slices have a digest, and no K
        raise CommandError(f"{data}: not a file of codes; {MADE_BY}")
    return str(about["digest"])
