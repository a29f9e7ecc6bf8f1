"""A copy of the data on node-local scratch, which many processes read at once."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from data_tools.console import CommandError, warn
from data_tools.own_datasets import own_attributes
from data_tools.slice_format import DAMAGE
from data_tools.staging import staged


def on_scratch(path: str, digest: str) -> str:
    """Copy a file of slices or codes to node-local scratch once, under its digest, and return where it is."""
    source, copy = Path(path), _place(path, digest)
    folder = copy.parent
    try:
        _make_own(folder)
        if not _is_copy(copy, source, digest):
            _copy(source, copy, digest)
    except OSError as error:
        raise CommandError(
            f"{folder}: {path} could not be copied there ({error.strerror})\n"
            "set TMPDIR to a folder with room for it, or data.preload to off"
        ) from error
    return str(copy)


@contextmanager
def dropping_damaged(path: str, digest: str) -> Iterator[None]:
    """Remove the copy on scratch where what is done ends in an error about it, so that the next start makes it anew."""
    try:
        yield
    except CommandError as error:
        copy = _place(path, digest)
        if str(copy) in str(error) and copy.is_file():
            copy.unlink(missing_ok=True)
            warn(f"{copy}: this copy of {path} is removed; the same command copies it again")
        raise


def _place(path: str, digest: str) -> Path:
    folder = Path(os.environ.get("TMPDIR") or tempfile.gettempdir()) / f"vqvae-dist-{os.getuid()}"
    return folder / f"{digest[:16]}-{Path(path).name}"


def _make_own(folder: Path) -> None:
    """Make a folder that only this user can open: what lies in it is trained on."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise CommandError(f"{folder}: not a folder of your own; remove it, or set TMPDIR to another place")
    folder.chmod(0o700)


def _copy(source: Path, copy: Path, digest: str) -> None:
    with staged(copy) as folder:  # several processes may copy at once; each renames a whole file
        shutil.copyfile(source, folder / copy.name)
        if not _is_copy(folder / copy.name, source, digest):
            raise CommandError(f"{source}: changed while it was copied to {copy.parent}; start again")
        (folder / copy.name).replace(copy)


def _is_copy(copy: Path, source: Path, digest: str) -> bool:
    """Whether ``copy`` is a whole file of this digest; its blocks have checksums, which are checked on reading."""
    try:
        with h5py.File(copy, "r", locking=False) as file:
            return copy.stat().st_size == source.stat().st_size and own_attributes(file).get("digest") == digest
    except DAMAGE:
        return False
