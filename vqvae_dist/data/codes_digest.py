"""What a codes file is known by: ``content_digest``, and whether it still holds that."""

from __future__ import annotations

import hashlib

import h5py

from data_tools.console import CommandError
from data_tools.own_datasets import own_attributes
from data_tools.slice_format import DAMAGE
from vqvae_dist.data.codes import AGAIN, COLUMNS, CodesReader

BLOCK = 1024
"""Code maps hashed at a time, and entries in a chunk of a column."""


def content_digest(file: h5py.File) -> str:
    """SHA-256 over codes, columns and the VQ-VAE's weights: what a prior learns from."""
    attributes = own_attributes(file)
    digest = hashlib.sha256(f"{attributes['K']} {attributes['vqvae_weights_sha256']}".encode())
    for name in sorted(file["codes"]):
        group = file["codes"][name]
        digest.update(f"{name} {len(group['codes'])}".encode())
        for key in ("codes", "foreground", *COLUMNS):
            for start in range(0, len(group[key]), BLOCK):
                digest.update(group[key][start : start + BLOCK].tobytes())
    return digest.hexdigest()


def check_digest(reader: CodesReader) -> None:
    """CommandError unless the file holds what its digest was made of, and what stands beside it; reads everything."""
    beside = reader.groups, reader.patches, reader.subjects, reader.classes  # which lie in this file
    try:
        with h5py.File(reader.path, locking=False) as file:
            whole = bool(beside) and content_digest(file) == reader.digest
    except DAMAGE as error:
        raise CommandError(f"{reader.path}: damaged ({error}); {AGAIN}") from error
    if not whole:
        raise CommandError(f"{reader.path}: damaged, its content has another digest; {AGAIN}")
