"""An HDF5 file of ours as several processes read it; what packed slices and codes have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py

from data_tools.console import CommandError
from data_tools.own_datasets import own_attributes, own_names


class OwnFile(ABC):
    """Opens its file when first needed, anew in each process; pickles as its path and digest alone.

    Everything raises CommandError, naming the file, where the file is missing, not ours, of another version, damaged,
    or another than at first.
    """

    def __init__(self, path: str | Path, digest: str | None = None) -> None:
        """``digest``: which content to expect, where another process has seen it."""
        self.path = Path(path)
        self._expected = digest
        self._file: h5py.File | None = None
        self._process = 0

    def __reduce__(self) -> tuple[type[Self], tuple[Path, str | None]]:
        return type(self), (self.path, self._expected)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    @abstractmethod
    def _open_anew(self) -> h5py.File:
        """Open the file, check that it is of its kind, and forget what was read through an earlier handle."""

    @abstractmethod
    def _damage_named(self, part: str) -> AbstractContextManager[None]:
        """Turn what damage raises into a CommandError that names the file and the part."""

    def _open(self) -> h5py.File:
        # A handle that came through a fork shares its file position and locks with the parent: never use it.
        if self._file is None or self._process != os.getpid():
            file = self._open_anew()
            with self._damage_named("its attributes"):
                self._expected = _same_content(self.path, own_attributes(file)["digest"], self._expected)
            self._file, self._process = file, os.getpid()
        return self._file

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What the file says of itself."""
        with self._damage_named("its attributes"):
            return own_attributes(self._open())

    @property
    def digest(self) -> str:
        """A hash of the content; the same content has the same digest."""
        return str(self.attributes["digest"])

    @cached_property
    def subjects(self) -> list[str]:
        """The names of the subjects; the column ``subject`` counts in them."""
        return self._names("subjects")

    @cached_property
    def classes(self) -> list[str]:
        """The names of the classes; the column ``label`` counts in them."""
        return self._names("classes")

    def _names(self, table: str) -> list[str]:
        with self._damage_named(f"/{table}/name"):
            return own_names(self._open(), f"{table}/name")


def _same_content(path: Path, digest: object, expected: str | None) -> str:
    """Return the digest that a file was opened with; CommandError where another was ``expected``."""
    if expected is not None and digest != expected:
        raise CommandError(f"{path}: not the file that this began with, its digest is {digest}; put {expected} back")
    return str(digest)
