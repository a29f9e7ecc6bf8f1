"""Walks the folders to be packed and notes in the catalog what there is to read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from data_tools.catalog import Catalog
from data_tools.console import UsageError
from data_tools.export import is_table
from data_tools.readers.formats import HEAD, promised, sniff, unknown
from data_tools.staging import STAGING
from data_tools.subjects import volume_of

Skip = Callable[[str, str], None]
"""Called with (path, reason) for what will give no slice."""


def base_folder(sources: Sequence[Path]) -> Path:
    """Return the folder that paths are relative to: the one source, or what several have in common."""
    for source in sources:
        if not source.exists():
            raise UsageError(f"{source}: no such file or folder")
    folders = [source if source.is_dir() else source.parent for source in sources]
    return Path(os.path.commonpath([_absolute(folder) for folder in folders]))


def _absolute(path: Path) -> str:
    # Not resolved: a folder that is a link keeps the name it is given by (`train`, say).
    return os.path.abspath(path)  # noqa: PTH100


def scan(sources: Sequence[Path], catalog: Catalog, skip: Skip) -> Path:
    """Note every file under ``sources`` in the catalog; return the folder that the paths are relative to.

    Links are followed, each real folder once. What is in memory are the names of the folders on the way, and the
    identity of each folder seen.
    """
    base = base_folder(sources)
    seen: set[tuple[int, int]] = set()
    for source in sources:
        path = os.path.relpath(_absolute(source), base)
        if source.is_dir():
            _scan_folder(base, "" if path == "." else path, catalog, skip, seen)
        else:
            _scan_file(base, path, catalog, skip)
    return base


def _scan_folder(base: Path, folder: str, catalog: Catalog, skip: Skip, seen: set[tuple[int, int]]) -> None:
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            identity = (base / folder).stat()
            if (identity.st_dev, identity.st_ino) in seen:
                skip(folder, "a link to a folder that is read already; not followed")
                continue
            seen.add((identity.st_dev, identity.st_ino))
            waiting += reversed(_scan_entries(base, folder, catalog, skip))
        except OSError as error:
            skip(folder, error.strerror or str(error))


def _scan_entries(base: Path, folder: str, catalog: Catalog, skip: Skip) -> list[str]:
    """Note the files of one folder; return the folders in it, sorted, links last so that real paths come first."""
    folders: list[tuple[bool, str]] = []
    with os.scandir(base / folder) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(STAGING):
                continue
            if entry.is_dir():
                folders.append((entry.is_symlink(), path))
            else:
                _scan_file(base, path, catalog, skip)
    return [path for _, path in sorted(folders)]


def _scan_file(base: Path, path: str, catalog: Catalog, skip: Skip) -> None:
    full = base / path
    try:
        status = full.stat()
        if not stat.S_ISREG(status.st_mode):
            return skip(path, "not a regular file")
        if is_table(full):
            return None
        is_dicom = _is_dicom(full)
    except OSError as error:
        return skip(path, error.strerror or str(error))
    if is_dicom is None:
        return skip(path, "empty" if not status.st_size else unknown())
    if any(part.lower().startswith("keras_png_slices_seg_") for part in path.split("/")[:-1]):
        return skip(path, "a segmentation of OASIS, not an image")
    volume, number = (path, None) if is_dicom else volume_of(path)
    return catalog.add_file(path, size=status.st_size, volume=volume, number=number, is_dicom=is_dicom)


def is_source(path: Path) -> bool:
    """Whether a file's first bytes are those of a picture, volume or DICOM file."""
    with path.open("rb") as stream:
        return sniff(stream.read(HEAD)) is not None


def _is_dicom(path: Path) -> bool | None:
    """Whether a file is DICOM or another kind of slice; None where it is neither."""
    with path.open("rb") as stream:
        name = sniff(stream.read(HEAD)) or promised(path.name)
    return None if name is None else name == "dicom"
