"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped: 2-D slices, 3-D volumes, one volume of a 4-D series.

The header is nibabel's; the voxels are read here, so that only the chosen volume is unpacked and raw values stay raw.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import zlib
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt

from data_tools.choices import Axis
from data_tools.readers.slice import (
    MAX_DEFLATE_RATIO,
    MAX_FILE_BYTES,
    PlacedSlice,
    RawSlice,
    UnreadableError,
    Volume,
    check_sides,
    check_volume,
    spread,
    to_stored,
)

# What nibabel finds odd in a header it either raises or accepts; its remarks on stderr help nobody.
logging.getLogger("nibabel").setLevel(logging.CRITICAL)
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

MAX_PADDING = 512
"""How many bytes may follow the voxels: fewer than a slice, which would be one that the header hides."""

_WORLD_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2, "auto": 2}
"""The world axis (right, anterior, superior) that a plane's slices follow each other along."""


def read_nifti(data: bytes, *, axis: Axis, volume: int) -> Volume:
    """Read the slices of a file along ``axis`` (``auto``: axial by the affine); ``volume`` chooses in a 4-D file.

    Rows and columns are the two other voxel axes, in the order of the world axes nearest to them (right, anterior,
    superior); they are transposed where need be and never flipped. A 2-D file is one slice, as it is stored.
    """
    zipped = data[:2] == b"\x1f\x8b"
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=io.BytesIO(data)) if zipped else io.BytesIO(data))
    try:
        header = _header(stream)
        voxels = to_stored(_voxels(stream, header, volume, available=len(data) * (MAX_DEFLATE_RATIO if zipped else 1)))
        _check_end(stream, header)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableError(f"a truncated or damaged gzip file ({error})") from error
    slope, intercept = header.get_slope_inter()
    planes = np.moveaxis(voxels, _axis_order(voxels.shape, header.get_best_affine(), axis), (0, 1, 2))
    check_sides(*planes.shape[1:])
    count = len(planes)
    slices = [
        PlacedSlice(
            RawSlice(np.ascontiguousarray(plane), 1.0 if slope is None else slope, intercept or 0.0),
            number,
            spread(number, count),
        )
        for number, plane in enumerate(planes)
    ]
    return Volume(slices, noisy_air=False, others=_volume_count(header) - 1)


def _header(stream: BinaryIO) -> Any:
    start = stream.read(4)
    stream.seek(0)
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    if not sizes & {348, 540}:
        raise UnreadableError("a gzip file that holds no NIfTI")
    kind = nib.Nifti2Header if 540 in sizes else nib.Nifti1Header
    stated = kind.from_fileobj(stream, check=False)  # nibabel's checks mend what they can
    stream.seek(0)
    header = kind.from_fileobj(stream)
    if bytes(header["magic"])[:2] == b"ni":
        raise UnreadableError("half of a two-file NIfTI (.hdr and .img); convert it to one .nii")
    if stated["bitpix"] != 8 * header.get_data_dtype().itemsize:
        raise UnreadableError(f"a header that claims {stated['bitpix']} bits a voxel of type {header.get_data_dtype()}")
    if math.isinf(stated["scl_slope"]):  # 0 and NaN are none
        raise UnreadableError(f"a slope of {stated['scl_slope']}")
    return header


def _voxels(stream: BinaryIO, header: Any, volume: int, *, available: int) -> npt.NDArray[Any]:
    """Return the voxels (X, Y, Z) of the chosen volume as stored; a 2-D file has Z = 1.

    ``available`` bytes are in the stream at most.
    """
    shape = tuple(int(size) for size in header.get_data_shape())
    dtype = header.get_data_dtype()
    if any(size < 1 for size in shape) or len(shape) < 2:
        raise UnreadableError(f"a header that claims a shape of {shape}")
    if math.prod(shape[4:]) > 1:
        raise UnreadableError(f"{len(shape)} dimensions; 2, 3 and 4 are read")
    volumes = _volume_count(header)
    if not 0 <= volume < volumes:
        raise UnreadableError(f"there is no volume {volume}; it has {volumes}")
    space = (*shape[:3], 1)[:3]
    size = math.prod(space) * dtype.itemsize
    check_volume(max(space), size)  # any of its sides may be the one that slices are counted along
    start = _start(header) + volume * size
    if start + size > min(available, MAX_FILE_BYTES):
        raise UnreadableError("truncated: it ends before its voxels do")
    stream.seek(start)
    raw = stream.read(size)
    if len(raw) < size:
        raise UnreadableError("truncated: it ends before its voxels do")
    return np.frombuffer(raw, dtype).reshape(space, order="F")


def _start(header: Any) -> int:
    return max(int(header.get_data_offset()), int(header.single_vox_offset))


def _volume_count(header: Any) -> int:
    shape = header.get_data_shape()
    return int(shape[3]) if len(shape) > 3 else 1


def _check_end(stream: BinaryIO, header: Any) -> None:
    """Unpack the rest and drop it: gzip's checksum of everything stands at the end, and no further voxel."""
    while stream.read(1 << 20):
        if stream.tell() > MAX_FILE_BYTES:
            raise UnreadableError(f"a gzip file that unpacks to more than {MAX_FILE_BYTES} bytes")
    end = _start(header) + math.prod(map(int, header.get_data_shape())) * header.get_data_dtype().itemsize
    if stream.tell() > end + MAX_PADDING:
        raise UnreadableError(f"it holds {stream.tell() - end} bytes more than its header claims")


def _axis_order(shape: tuple[int, ...], affine: npt.NDArray[np.float64], axis: Axis) -> tuple[int, int, int]:
    """Return the voxel axes for (slices, rows, columns)."""
    if shape.count(1) == 1:  # one slice, whatever the plane asked for
        single = shape.index(1)
        rows, columns = (number for number in range(3) if number != single)
        return single, rows, columns
    world = nib.orientations.io_orientation(affine)[:, 0]
    if np.isnan(world).any():
        world = np.arange(3.0)
    slices = int(np.flatnonzero(world == _WORLD_AXIS[axis])[0])
    rows, columns = sorted((number for number in range(3) if number != slices), key=lambda number: world[number])
    return slices, rows, columns
