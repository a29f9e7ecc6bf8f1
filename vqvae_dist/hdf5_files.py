"""New HDF5 files that a full disk ends with an error of the system, and not with the end of the process."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from vqvae_dist.files import naming


class RememberingFile(io.FileIO):
    """A new file that keeps its first error, and after that only seems to be written.

    The HDF5 library can't close a file that it can't flush; it tries again when the process ends, and crashes it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        rest = memoryview(data).cast("B")
        try:
            while rest and not self.error:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error


@contextmanager
def new_hdf5(path: Path, **options: Any) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Provide a new HDF5 file at ``path``, and a check to call now and then; synced at the end.

    Raises OSError, naming the file, in the check or at the end where the disk did not take it.
    """
    with naming(path), RememberingFile(path) as stream:
        file = h5py.File(stream, "w", **options)
        try:
            yield file, stream.check
        finally:
            file.close()
            stream.check()  # whatever else failed did so because of that
        os.fsync(stream.fileno())
