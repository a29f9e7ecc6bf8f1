"""Files that are not what they claim to be: datasets that are replaced, or lie in another file."""

from __future__ import annotations

from typing import Any

import h5py


def replaced(file: h5py.File, name: str, **options: Any) -> None:
    """Put another dataset in the place of one; ``options`` are those of ``create_dataset``."""
    del file[name]
    file.create_dataset(name, **options)


def linked(file: h5py.File, name: str) -> None:
    """Put a link into another file in the place of a group."""
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", f"/{name}")


def bytes_of_another_file(file: h5py.File, name: str) -> None:
    """Let a dataset hold the raw bytes of another file."""
    dataset = file[name]
    shape, dtype, size = dataset.shape, dataset.dtype, dataset.size * dataset.dtype.itemsize
    del file[name]
    file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, size)])


def view_of_another_file(file: h5py.File, name: str) -> None:
    """Put a virtual dataset over another file in the place of a dataset."""
    dataset = file[name]
    layout = h5py.VirtualLayout(dataset.shape, dataset.dtype)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", dataset.shape)
    del file[name]
    file.create_virtual_dataset(name, layout)
