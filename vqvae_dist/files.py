"""Files that are whole or absent: written beside, fsynced, renamed; and lines that are appended whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_tools.staging import STAGING

SEAL = "sha256"
"""Key of a sealed JSON object that holds the checksum of all the others."""


def staging_path(path: Path) -> Path:
    """A fresh name beside ``path`` to write to before the rename, in a folder that its owner clears of such names."""
    return path.with_name(f"{STAGING}{uuid.uuid4().hex[:8]}-{path.name}")


def write_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a reader sees the old file or the new one, whatever happens."""
    staged = staging_path(path)
    with naming(path):
        try:
            write_synced(staged, content)
            staged.replace(path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the system's errors name ``path``; a full disk names no file, and the one beside is nobody's affair."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def append_whole(descriptor: int, content: bytes) -> None:
    """Append all of ``content`` to a file, or raise OSError and leave it as long as it was."""
    size, written = os.fstat(descriptor).st_size, 0
    try:
        while written < len(content):  # a disk that is nearly full takes a part of it without an error
            written += os.write(descriptor, content[written:])
    except OSError:
        if os.fstat(descriptor).st_size == size + written:  # nobody else appended meanwhile
            os.ftruncate(descriptor, size)
        raise


def write_synced(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` and wait until it is on the disk; a kill may leave a part of it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write JSON without NaN or infinity, for people and scripts to read."""
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its own checksum, so that damage to a single digit is noticed."""
    write_json(path, {**value, SEAL: seal_of(value)})


def seal_of(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever the order of its keys and its layout in the file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
