"""Writing a codes file: ``CodesWriter``. The layout stands in ``codes``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vqvae_dist.data.codes import COLUMNS, FORMAT, VERSION
from vqvae_dist.data.codes_digest import BLOCK, content_digest

LIBVER = ("v110", "v110")
"""Fixed, so that the bytes do not depend on the version of HDF5; every block of metadata has a checksum."""

Columns = Mapping[str, npt.NDArray[Any]]


class CodesWriter:
    """Appends code maps to a new file, batch by batch."""

    def __init__(self, file: h5py.File, attributes: Mapping[str, object]) -> None:
        """``file`` was made with ``LIBVER``; ``attributes`` are those of the layout but format, version and digest."""
        self._file = file
        write_attributes(self._file, attributes)

    def append(
        self,
        slices: str,
        size: tuple[int, int],
        codes: npt.NDArray[np.integer],
        foreground: npt.NDArray[np.bool_],
        columns: Columns,
    ) -> None:
        """Add ``codes`` and ``foreground`` (n, h, w) of slices of the packed group ``slices``."""
        count, *grid = codes.shape
        name = f"{grid[0]}x{grid[1]}_of_{slices}"
        group = self._file.require_group("codes").get(name) or self._new_group(name, slices, size, tuple(grid))
        values = {"codes": codes, "foreground": foreground, **{column: columns[column] for column in COLUMNS}}
        for key, new in values.items():
            dataset = group[key]
            dataset.resize(len(dataset) + count, axis=0)
            dataset[-count:] = new

    def _new_group(self, name: str, slices: str, size: tuple[int, int], grid: tuple[int, ...]) -> h5py.Group:
        group = self._file.create_group(f"codes/{name}")
        write_attributes(group, {"slices": slices, "height": size[0], "width": size[1]})
        maps = {"maxshape": (None, *grid), "chunks": (1, *grid), "fletcher32": True}
        group.create_dataset("codes", (0, *grid), "<u2", **maps)
        group.create_dataset("foreground", (0, *grid), "u1", **maps)
        for column, kind in COLUMNS.items():
            group.create_dataset(column, (0,), kind, maxshape=(None,), chunks=(BLOCK,), fletcher32=True)
        return group

    def finish(self, patches: npt.NDArray[np.float32], subjects: list[str], classes: list[str]) -> None:
        """Write the mean patches (K, d, d), the names, and the digest of it all."""
        self._file.require_group("codes")
        self._file.create_dataset("patches", data=patches.astype("<f4"), fletcher32=True)
        for key, names in (("subjects/name", subjects), ("classes/name", classes)):
            texts = [name.encode() for name in names]
            kind = h5py.string_dtype("utf-8", max(map(len, texts), default=1))
            options = {"chunks": (len(texts),), "fletcher32": True} if texts else {}
            self._file.create_dataset(key, data=np.array(texts, kind), **options)
        about = {"format": FORMAT, "version": VERSION, "digest": content_digest(self._file)}
        write_attributes(self._file, about)


def write_attributes(target: h5py.Group, attributes: Mapping[str, object]) -> None:
    """Write attributes, texts with a fixed length: HDF5 keeps no checksum of variable-length text."""
    for name, value in attributes.items():
        if isinstance(value, str):
            text = value.encode()
            target.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(len(text), 1)))
        else:
            target.attrs[name] = value
