"""The formats that are read: how a file of each begins, and its reader. A further one is a module here and an entry.

Light, as the command line names them: numpy is imported with a reader.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from data_tools.choices import Axis

if TYPE_CHECKING:
    from data_tools.readers.slice import Volume

HEAD = 540
"""How many of its first bytes tell what a file is."""


class Format(NamedTuple):
    """A kind of file."""

    label: str
    """What it is called in messages and ``--help``; several names with commas."""

    begins: Callable[[bytes], bool]
    """Whether the first ``HEAD`` bytes are those of such a file; its name is not believed."""

    suffixes: tuple[str, ...]
    """Names that promise one where the first bytes do not tell: a worker says what is wrong with such a file.

    They are no part of a subject's name.
    """

    read: Callable[[bytes, Axis, int], Volume]
    """Reads one: its content, the plane of the slices, the number of the volume. Its library is imported here first."""


_IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _begins_nifti(head: bytes) -> bool:
    sizes = {struct.unpack(order + "i", head[:4])[0] for order in "<>"} if len(head) >= 4 else set()
    gzipped = head[:2] == b"\x1f\x8b"
    return gzipped or 540 in sizes or (348 in sizes and head[344:347] in (b"n+1", b"ni1"))


def _begins_dicom(head: bytes) -> bool:
    # Without preamble it starts with an element of group 2 or 8, little or big endian.
    group = head[:2]
    little = group in (b"\x02\0", b"\x08\0") and head[3:4] == b"\0"
    big = group in (b"\0\x02", b"\0\x08") and head[2:3] == b"\0" and head[4:6].isalpha()
    return head[128:132] == b"DICM" or little or big


def _read_image(data: bytes, axis: Axis, volume: int) -> Volume:
    from data_tools.readers.image_folder import read_image

    return read_image(data)


def _read_nifti(data: bytes, axis: Axis, volume: int) -> Volume:
    from data_tools.readers.nifti import read_nifti

    return read_nifti(data, axis=axis, volume=volume)


def _read_dicom(data: bytes, axis: Axis, volume: int) -> Volume:
    from data_tools.readers.dicom import read_series
    from data_tools.readers.slice import UnreadableError

    series = read_series([data])
    if series.unreadable:
        raise UnreadableError(series.unreadable[0])
    return series


FORMATS = {
    "dicom": Format("DICOM", _begins_dicom, (".dcm", ".ima"), _read_dicom),
    "image": Format(
        "PNG, JPEG, TIFF, BMP",
        lambda head: head.startswith(_IMAGE_MAGIC),
        (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
        _read_image,
    ),
    "nifti": Format("NIfTI", _begins_nifti, (".nii", ".nii.gz"), _read_nifti),
}
"""By name. DICOM has more places, as its files are a volume together: ``scan`` notes them, ``decode`` reads series."""


def labels() -> str:
    """What the formats are called, with commas."""
    return ", ".join(kind.label for kind in FORMATS.values())


def unknown() -> str:
    """Say of a file that it is none of them."""
    return f"none of {labels()}"


def sniff(head: bytes) -> str | None:
    """Name the format of a file by its first ``HEAD`` bytes; None where it is none of them."""
    return next((name for name, kind in FORMATS.items() if kind.begins(head)), None)


def promised(name: str) -> str | None:
    """Name the format that a file's name promises; None where it promises none."""
    lower = name.lower()
    return next((format_name for format_name, kind in FORMATS.items() if lower.endswith(kind.suffixes)), None)


def without_suffixes(name: str) -> str:
    """Return a file's name without all that the formats end theirs with: ``scan.nii.png`` -> ``scan``."""
    return _endings(tuple(kind.suffixes for kind in FORMATS.values())).sub("", name)


@cache
def _endings(suffixes: tuple[tuple[str, ...], ...]) -> re.Pattern[str]:
    """One or more parts of ``suffixes`` at the end of a name; of .nii.gz also .gz alone."""
    parts = sorted({re.escape(part) for some in suffixes for suffix in some for part in suffix[1:].split(".")})
    return re.compile(rf"(\.({'|'.join(parts)}))+$", re.IGNORECASE)


def read_file(data: bytes, *, axis: Axis, volume: int) -> Volume:
    """Read the content of a file by what it is; UnreadableError says why it gives no slice."""
    from data_tools.readers.slice import UnreadableError

    name = sniff(data[:HEAD])
    if name is None:
        raise UnreadableError(unknown() if data else "empty")
    return FORMATS[name].read(data, axis, volume)
