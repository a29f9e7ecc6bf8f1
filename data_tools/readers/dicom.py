"""DICOM: single and multi-frame files, put together to series that are sorted by position."""

from __future__ import annotations

import io
import logging
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from data_tools.readers.dicom_bytes import beginning, check_items, whole
from data_tools.readers.slice import (
    PlacedSlice,
    RawSlice,
    UnreadableError,
    Volume,
    check_sides,
    check_volume,
    reason,
    to_stored,
)

_KEYWORDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
"""Those whose pixels are numbers as they are."""

_KEY_BYTES, _KEY_ITEMS = 1 << 22, 1 << 16
"""Bytes of a dataset in which patient, study and series are looked for, and the most items of sequences before them."""

MAX_ITEMS = 1 << 21
"""The most items of sequences in a file."""

MAX_OVERHEAD = 1 << 20
"""Bytes that encoded pixels may take beyond twice those of the pixels themselves."""

MAX_PLANES = 256
"""The most directions of slices in a series: each slice is compared with all of them."""

logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


class SeriesKey(NamedTuple):
    """What tells which series, study and patient a file belongs to; empty where the file does not say."""

    patient: str
    study: str
    series: str


@dataclass(frozen=True)
class _Frame:
    """A frame and what sorts it within its series."""

    slice: RawSlice
    file: int
    directions: tuple[float, ...]
    """Of rows and columns, six numbers; empty where the file does not say."""

    height: float
    """Distance along the normal of the slices, in mm; 0 where the file does not say."""

    instance: int
    number: int


def read_key(stream: BinaryIO) -> SeriesKey:
    """Read which series a DICOM file belongs to, without its pixels; raise whatever a damaged file leads to."""
    head = beginning(stream.read(_KEY_BYTES), _KEY_BYTES)
    check_items(head, most=_KEY_ITEMS)
    header = pydicom.dcmread(io.BytesIO(head), force=True, specific_tags=list(_KEYWORDS), stop_before_pixels=True)
    return SeriesKey(*(str(header.get(name) or "").strip() for name in _KEYWORDS))


def read_series(files: Sequence[bytes | None]) -> Volume:
    """Read the files of one series and put their frames in order of position.

    A file given as None is passed over. Frames at equal places (echoes, time points) keep their instance numbers'
    order and share a position; without any place in the files the instance numbers alone give it.
    """
    frames: list[_Frame] = []
    size = 0
    unreadable: dict[int, str] = {}
    for file, data in enumerate(files):
        if data is not None:
            try:
                found = _read_frames(data, file)
                more = sum(frame.slice.pixels.nbytes for frame in found)
                check_volume(len(frames) + len(found), size + more)
                frames += found
                size += more
            except (struct.error, BytesLengthException):
                unreadable[file] = "truncated or damaged: its header ends within an element"
            # pydicom and its decoders raise whatever a damaged file leads them to.
            except Exception as error:
                unreadable[file] = reason(error)
    planes = _planes(frames)
    order = [(planes[n], f.height, f.instance, f.file, f.number) for n, f in enumerate(frames)]
    frames = [frames[n] for n in sorted(range(len(frames)), key=order.__getitem__)]
    places = _places(sorted(order), placed=any(frame.directions for frame in frames))
    last = max(places, default=0)
    slices = [
        PlacedSlice(frame.slice, index, place / last if last else 0.5, frame.file)
        for index, (frame, place) in enumerate(zip(frames, places, strict=True))
    ]
    return Volume(slices, noisy_air=True, unreadable=unreadable)


def _planes(frames: Sequence[_Frame]) -> list[int]:
    """Number the planes in the order they appear: a scout series holds several, each a stack of its own."""
    seen: list[tuple[float, ...]] = []
    planes = []
    for frame in frames:
        plane = (n for n, one in enumerate(seen) if len(one) == len(frame.directions) and _close(one, frame.directions))
        planes.append(next(plane, len(seen)))
        if planes[-1] == len(seen):
            seen.append(frame.directions)
        if len(seen) > MAX_PLANES:
            raise UnreadableError(f"a series of slices in more than {MAX_PLANES} directions")
    return planes


def _close(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(abs(x - y) < 0.05 for x, y in zip(a, b, strict=True))


def _places(order: Sequence[tuple[float, ...]], *, placed: bool) -> list[int]:
    """Return for each sorted frame the number of its place; where heights are known, equal ones share it."""
    places: list[int] = []
    for number, key in enumerate(order):
        same = placed and number > 0 and key[:2] == order[number - 1][:2]
        places.append(0 if not number else places[-1] if same else places[-1] + 1)
    return places


def _read_frames(data: bytes, file: int) -> list[_Frame]:
    plain = whole(data)
    check_items(plain, most=MAX_ITEMS)
    dataset = pydicom.dcmread(io.BytesIO(plain), force=True)
    if not any(keyword in dataset for keyword in _PIXELS):
        raise UnreadableError("DICOM without pixels")
    check_sides(int(dataset.Rows), int(dataset.Columns))
    count = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    size = dataset.Rows * dataset.Columns * count * samples * math.ceil(dataset.BitsAllocated / 8)
    if size <= 0:
        raise UnreadableError(f"a header that claims {size} bytes of pixels")
    check_volume(count, size)
    _check_whole(dataset, size)
    if len(dataset.get("PixelData") or b"") > 2 * size + MAX_OVERHEAD:  # RLE unpacks to 64 times as much
        raise UnreadableError("it holds more pixel data than its header claims")
    values = _gray(dataset, count, samples)
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    rescale = _rescale(dataset, 0)
    if any(_rescale(dataset, number) != rescale for number in range(1, count)):
        raise UnreadableError("its frames have different rescale slopes; split it into single frames")
    return [
        _Frame(
            RawSlice(to_stored(np.ascontiguousarray(values[number])), *rescale, inverted=inverted),
            file,
            *_place(dataset, number),
            instance=int(dataset.get("InstanceNumber") or 0),
            number=number,
        )
        for number in range(count)
    ]


def _check_whole(dataset: pydicom.Dataset, size: int) -> None:
    """Refuse a file whose pixels, not encoded, are fewer than the ``size`` bytes that its header claims."""
    # Files from before part 10 name no transfer syntax, and have no encoded pixels.
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", ImplicitVRLittleEndian)
    halved = "422" in str(dataset.get("PhotometricInterpretation") or "")  # colour at half the width
    if syntax not in _PLAIN_SYNTAXES or halved or dataset.BitsAllocated % 8:
        return
    found = max(len(dataset.get(keyword) or b"") for keyword in _PIXELS)
    if found < size:
        raise UnreadableError(f"truncated: {found} of {size} bytes of pixels are there")


def _gray(dataset: pydicom.Dataset, count: int, samples: int) -> np.ndarray[Any, Any]:
    """Return the stored values (frames, H, W)."""
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):  # files from before part 10 do not name it
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        raise UnreadableError("DICOM with a colour palette; convert it to gray")
    stored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if int(dataset.get("HighBit") or stored - 1) != stored - 1:
        raise UnreadableError(f"its {stored} bits end at bit {dataset.HighBit} and not {stored - 1}; convert it")
    if dataset.get("ModalityLUTSequence"):
        raise UnreadableError("its values mean something by a table (Modality LUT), not by a slope; convert it")
    if dataset.BitsAllocated == 1:
        raise UnreadableError("a mask of 1 bit, not a picture")
    values: np.ndarray[Any, Any] = pixel_array(dataset, raw=photometric.startswith("MONO"))
    if samples > 1:
        if (values != values[..., :1]).any():
            raise UnreadableError("it is in colour, not gray stored as RGB; convert it to gray")
        values = values[..., 0]
    return values.reshape(count, int(dataset.Rows), int(dataset.Columns))


def _guessed_syntax(dataset: pydicom.Dataset) -> UID:
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _functional_group(dataset: pydicom.Dataset, name: str, number: int) -> pydicom.Dataset:
    """Return where an enhanced multi-frame file says ``name`` of a frame; the dataset itself in a plain file."""
    for groups, which in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        sequence = dataset.get(groups)
        if sequence and which < len(sequence) and sequence[which].get(name):
            group: pydicom.Dataset = sequence[which][name][0]
            return group
    return dataset


def _rescale(dataset: pydicom.Dataset, number: int) -> tuple[float, float]:
    group = _functional_group(dataset, "PixelValueTransformationSequence", number)
    slope, intercept = group.get("RescaleSlope"), group.get("RescaleIntercept")
    # A slope of 0 would make everything one value: files that say so mean "none".
    return float(slope or 1.0), float(intercept or 0.0)


def _place(dataset: pydicom.Dataset, number: int) -> tuple[tuple[float, ...], float]:
    """Return the directions of a frame and its height along the normal; ``((), 0.0)`` where they are not said."""
    directions = _functional_group(dataset, "PlaneOrientationSequence", number).get("ImageOrientationPatient")
    corner = _functional_group(dataset, "PlanePositionSequence", number).get("ImagePositionPatient")
    if not directions or not corner or len(directions) != 6 or len(corner) != 3:
        return (), 0.0
    rows, columns = np.array(directions[:3], float), np.array(directions[3:], float)
    height = float(np.cross(rows, columns) @ np.array(corner, float))
    if not math.isfinite(height):
        return (), 0.0
    return (*rows.tolist(), *columns.tolist()), round(height, 3)
