"""The workers' side of packing: from the paths of a volume to finished chunks."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import resource
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_tools.catalog import FileRow
from data_tools.choices import Axis, Compression, Window
from data_tools.intensity import foreground_share, stored_window, volume_window
from data_tools.leaks import may_be_bytes
from data_tools.readers.formats import read_file
from data_tools.readers.slice import MAX_FILE_BYTES, PlacedSlice, UnreadableError, Volume, reason
from data_tools.slicewriter import EncodedSlice, SliceEncoder

if TYPE_CHECKING:
    from data_tools.readers.dicom import SeriesKey

MAX_WORKER_BYTES = 16 << 30
"""The memory that decoding may take in a process, whatever a library is led to; beyond it the file is refused."""


@dataclass(frozen=True)
class DecodeSettings:
    """What the workers need to know."""

    base: Path
    axis: Axis
    volume: int
    window: Window | None
    min_foreground: float
    compression: Compression


class FileFacts(NamedTuple):
    """What is recorded of a file that was read."""

    sha256: bytes
    slope: float
    intercept: float
    noisy_air: bool


@dataclass
class DecodedVolume:
    """What became of the files of one volume."""

    rows: Sequence[FileRow]
    facts: dict[int, FileFacts] = field(default_factory=dict)
    """By number of the file in ``rows``."""

    slices: list[tuple[int, EncodedSlice]] = field(default_factory=list)
    """Each with the number of its file, in order."""

    unreadable: dict[int, str] = field(default_factory=dict)
    dropped: dict[int, int] = field(default_factory=dict)
    """How many (nearly) empty slices of each file were left out."""

    other_volumes: int = 0
    """How many volumes of a 4-D file were left out."""


class Decoder:
    """Reads volumes; one for each process, because the encoder is kept."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._encoder = SliceEncoder(settings.compression)

    def decode(self, rows: Sequence[FileRow]) -> DecodedVolume:
        """Read the files of one volume: one file, or those of a DICOM series."""
        result = DecodedVolume(rows)
        contents: dict[int, bytes] = {}
        left = MAX_FILE_BYTES
        for number, row in enumerate(rows):
            try:
                contents[number] = read_whole(self._settings.base / row.path, most=left)
                left -= len(contents[number])
            except OSError as error:
                result.unreadable[number] = error.strerror or str(error)
            except UnreadableError as error:
                result.unreadable[number] = str(error)
        try:
            volume = self._read(rows, contents)
            result.unreadable |= volume.unreadable
            result.other_volumes = volume.others
            if not volume.slices:
                return result
            window = volume_window([placed.slice for placed in volume.slices], self._settings.window)
            for placed in volume.slices:
                self._add(result, rows, placed, window)
        # The readers stand on libraries that raise whatever a damaged file leads them to; no file stops the rest.
        except Exception as error:
            result.slices.clear()
            result.other_volumes = 0
            result.unreadable = {number: reason(error) for number in contents} | result.unreadable
            return result
        for placed in volume.slices:
            if placed.file not in result.facts:
                sha256 = hashlib.sha256(contents[placed.file]).digest()
                facts = FileFacts(sha256, placed.slice.slope, placed.slice.intercept, volume.noisy_air)
                result.facts[placed.file] = facts
        return result

    def _read(self, rows: Sequence[FileRow], contents: dict[int, bytes]) -> Volume:
        if rows[0].is_dicom:
            from data_tools.readers.dicom import read_series

            return read_series([contents.get(number) for number in range(len(rows))])
        if not contents:
            return Volume([], noisy_air=False)
        return read_file(contents[0], axis=self._settings.axis, volume=self._settings.volume)

    def _add(self, result: DecodedVolume, rows: Sequence[FileRow], placed: PlacedSlice, window: Window) -> None:
        pixels = np.ascontiguousarray(placed.slice.pixels, placed.slice.pixels.dtype.newbyteorder("<"))
        stored = stored_window(placed.slice, window)
        if self._settings.min_foreground and foreground_share(pixels, stored) < self._settings.min_foreground:
            result.dropped[placed.file] = result.dropped.get(placed.file, 0) + 1
            return
        index, position = _place(rows[placed.file], placed)
        mask, chunk = self._encoder.encode(pixels)
        sha256 = hashlib.sha256(pixels.data).digest()
        height, width = pixels.shape
        encoded = EncodedSlice(
            height, width, pixels.dtype.name, mask, chunk, index, position, stored, sha256, may_be_bytes(pixels)
        )
        result.slices.append((placed.file, encoded))


def _place(row: FileRow, placed: PlacedSlice) -> tuple[int, float]:
    """Return index and position: from the name of a single-slice file that has a number, else from the volume."""
    if row.number is None or row.first is None or row.last is None or placed.index > 0:
        return placed.index, placed.position
    return row.number, (row.number - row.first) / (row.last - row.first) if row.last > row.first else 0.5


def read_whole(path: Path, *, most: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a file as it was at one moment; UnreadableError if it changed meanwhile or is too large."""
    with path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        if before.st_size > most:
            series = " for all files of a series" if most < MAX_FILE_BYTES else ""
            raise UnreadableError(f"{before.st_size} bytes; the limit{series} is {MAX_FILE_BYTES}")
        data = stream.read(before.st_size + 1)
        after = os.fstat(stream.fileno())
    if len(data) != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        raise UnreadableError("it changed while it was read")
    return data


_decoder: Decoder | None = None  # one a worker process, made when it starts


def prepare(settings: DecodeSettings) -> None:
    """Make this process ready for ``decode_batch``."""
    global _decoder
    _decoder = Decoder(settings)


def start_worker(settings: DecodeSettings) -> None:
    """Make a process a worker: deaf to Ctrl-C (the parent answers it), and ending with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _set_memory_limit(MAX_WORKER_BYTES)
    prepare(settings)


@contextlib.contextmanager
def memory_limited() -> Iterator[None]:
    """Hold this process to ``MAX_WORKER_BYTES`` for a while."""
    before = _set_memory_limit(MAX_WORKER_BYTES)
    try:
        yield
    finally:
        _set_memory_limit(before)


def _set_memory_limit(most: int) -> int:
    """Set how much data this process may hold, never above what it is allowed already; return what it was before."""
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = [limit for limit in (most, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed, default=resource.RLIM_INFINITY), hard))
    return before


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def decode_batch(batch: Sequence[Sequence[FileRow]]) -> list[DecodedVolume]:
    """Decode several volumes with the decoder of this process."""
    assert _decoder is not None, "prepare runs first"
    with warnings.catch_warnings():  # what is wrong with a file comes as an exception
        warnings.simplefilter("ignore")
        return [_decoder.decode(rows) for rows in batch]


def read_keys(base: Path, paths: Sequence[str]) -> list[tuple[str, SeriesKey]]:
    """Return each path with patient, study and series of that DICOM file; empty texts where a header cannot be read."""
    from data_tools.readers.dicom import SeriesKey, read_key

    keys = []
    for path in paths:
        try:
            with warnings.catch_warnings(action="ignore"), (base / path).open("rb") as stream:
                keys.append((path, read_key(stream)))
        # What is wrong with the file is said when its pixels are read.
        except Exception:
            keys.append((path, SeriesKey("", "", "")))
    return keys
