"""Writes the slices of a packed file as images again, pixel for pixel: ``export``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_tools.console import counted, progress, say
from data_tools.slice_format import SPLITS
from data_tools.slicefile import SliceReader
from data_tools.staging import new_folder

_SAMPLE_FORMAT, _SIGNED = 339, 2  # a TIFF tag, and its value for signed whole numbers

_FACTS = ("file", "group", "row", "source", "subject", "slice_index", "position", "split", "class")
_SCALING = ("window_low", "window_high", "slope", "intercept")

TABLES = {"slices.csv": (*_FACTS, *_SCALING), "subjects.csv": ("path", "subject", "class")}
"""The headings of the tables beside the images."""


def export(file: Path, out_dir: Path) -> None:
    """Write every slice of ``file`` to ``OUT_DIR/SPLIT/SUBJECT_source_N_slice_K.png`` (or .tif).

    uint8 and uint16 become PNG, int16 and float32 TIFF. ``slices.csv`` holds what is known of each, ``subjects.csv``
    is for ``pack --subjects``: packing OUT_DIR with it gives the same pixels, subjects, classes and splits.
    """
    with SliceReader(file) as reader, new_folder(out_dir) as folder:
        reader.check_digest()
        total = sum(group.count for group in reader.groups)
        _export_all(reader, folder, total)
    say(f"{out_dir}: {counted(total, 'slice')}, listed in slices.csv")


def _export_all(reader: SliceReader, out_dir: Path, total: int) -> None:
    """Write every slice and the tables to a new folder."""
    for split in SPLITS:
        (out_dir / split).mkdir()
    with _table(out_dir / "slices.csv") as table, _table(out_dir / "subjects.csv") as owners:
        lines, subjects = csv.writer(table), csv.writer(owners)
        lines.writerow(TABLES["slices.csv"])
        subjects.writerow(TABLES["subjects.csv"])
        slices = ((group.name, row) for group in reader.groups for row in range(group.count))
        for group, row in progress(slices, total=total, label="exporting"):
            line = _export_slice(reader, group, row, out_dir)
            lines.writerow(line)
            subjects.writerow((line[0], line[_FACTS.index("subject")], line[_FACTS.index("class")]))


def is_table(path: Path) -> bool:
    """Tell by its name and its heading whether a file is one of ``TABLES``, and so nothing to be packed."""
    if path.name not in TABLES:
        return False
    heading = ",".join(TABLES[path.name]).encode()
    with path.open("rb") as stream:
        return stream.readline(len(heading) + 2).rstrip(b"\r\n") == heading


def _table(path: Path) -> TextIO:
    return path.open("w", newline="", encoding="utf-8")


def _export_slice(reader: SliceReader, group: str, row: int, out_dir: Path) -> tuple[Any, ...]:
    """Write one slice; return its line for the table."""
    index = reader.index(group)
    pixels = reader.read(group, row)
    source, subject = int(index.source[row]), reader.subjects[index.subject[row]]
    split, label = SPLITS[index.split[row]], int(index.label[row])
    # Percent signs for what a file name cannot hold; dots too, so that no name is `..` or has a suffix of its own.
    name = f"{quote(subject, safe=' ').replace('.', '%2E')}_source_{source}_slice_{index.slice_index[row]}"
    path = Path(split) / f"{name}{'.png' if pixels.dtype.kind == 'u' else '.tif'}"
    save_exactly(pixels, out_dir / path)
    facts = reader.source(source)
    return (
        path.as_posix(),
        group,
        row,
        facts.path,
        subject,
        int(index.slice_index[row]),
        float(index.position[row]),
        split,
        reader.classes[label] if label >= 0 else "",
        *index.window[row].tolist(),
        facts.slope,
        facts.intercept,
    )


def save_exactly(pixels: npt.NDArray[Any], path: Path) -> None:
    """Write ``pixels`` (H, W) so that reading gives the same numbers in the same type."""
    if pixels.dtype == np.int16:
        Image.fromarray(pixels.view(np.uint16)).save(path, tiffinfo={_SAMPLE_FORMAT: _SIGNED})
    else:
        Image.fromarray(pixels).save(path)
