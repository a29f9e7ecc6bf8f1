"""Files that lie: small, and claiming or unpacking to what no machine holds."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from tests.data_tools.dicoms import dicom, values
from tests.data_tools.readers.pictures import encoded
from tests.data_tools.readers.test_images import png
from tests.data_tools.readers.test_nifti import VOXELS, nifti
from tests.data_tools.slices import brain

ZEROS = bytes(1 << 26)


def tiff(pages: int, side: int) -> bytes:
    """A TIFF whose pages are all the same deflated strip of ``side`` x ``side`` zeros."""
    strip = zlib.compress(bytes(side * side))
    start = 8 + len(strip) + len(strip) % 2
    tags = ((256, side), (257, side), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1), (278, side), (279, len(strip)))
    size = 2 + 12 * len(tags) + 4
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    chain = (entries + struct.pack("<I", start + size * (n + 1) if n + 1 < pages else 0) for n in range(pages))
    return b"II*\0" + struct.pack("<I", start) + strip.ljust(start - 8, b"\0") + b"".join(chain)


def nifti_bomb(unpacked: int, kind: type = nib.Nifti1Image, **header: Any) -> bytes:
    """A gzip file of a header with a small volume, and then ``unpacked`` bytes of zeros in many members."""
    return gzip.compress(nifti(VOXELS, kind=kind, **header)) + gzip.compress(ZEROS) * (unpacked // len(ZEROS))


def deflated_bomb(unpacked: int) -> bytes:
    """A deflated DICOM file of ``unpacked`` bytes: one flushed block of zeros, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packer.compress(ZEROS[: 1 << 20])
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return meta_of(DeflatedExplicitVRLittleEndian) + block * (unpacked // len(ZEROS))


def meta_of(syntax: str) -> bytes:
    """The preamble and first group of a DICOM file of a transfer syntax, which is even named late in it."""
    filling = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 4000) + bytes(4000)
    uid = syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\0")
    return bytes(128) + b"DICM" + filling + struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid


def items_bomb(items: int) -> bytes:
    """A DICOM file with a sequence of ``items`` empty items."""
    start = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return meta_of(ExplicitVRLittleEndian) + start + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * items + end


def jpeg_in_dicom(side: int) -> bytes:
    """A DICOM file of 8 x 8 pixels whose JPEG stream claims ``side`` x ``side``."""
    jpeg = bytearray(encoded(brain(8, 8), "jpeg"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", side, side)
    gray = np.zeros((8, 8), np.uint16)
    about = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": encapsulate([bytes(jpeg)])}
    return dicom(gray, syntax=JPEGBaseline8Bit, **about)


def rle_bomb() -> bytes:
    """A DICOM file of 7 x 9 pixels whose RLE segments unpack to far more."""
    header = struct.pack("<16I", 2, 64, 1_000_064, *[0] * 13)
    frame = header + b"\x81\0" * 1_000_000
    return dicom(values(), syntax=ExplicitVRLittleEndian, PixelData=frame).replace(
        ExplicitVRLittleEndian.encode() + b"\0", RLELossless.encode() + b"\0"
    )


def without_pixels() -> bytes:
    """A DICOM file as a report or a plan is one."""
    data = dicom(values())
    return data[: data.rindex(b"\xe0\x7f\x10\x00")]


HUGE = 10**5
SIDES = [3, 30000, 30000, 30000, 1, 1, 1, 1]  # 2.7e13 voxels

HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "cut.png": (encoded(brain())[:-20], "truncated PNG"),
    "huge.png": (png(HUGE, HUGE, 8, 0, b"\0"), "larger than the limit of 67108864 pixels"),
    "cut.jpg": (encoded(brain(64, 64), "jpeg")[:900], "truncated"),
    "text.nii": (b"hello" * 200, "none of DICOM, PNG, JPEG, TIFF, BMP, NIfTI"),
    "report.png": (without_pixels(), "DICOM without pixels"),
    "colour.png": (encoded(np.stack([brain(seed=n) for n in range(3)], -1)), "it is in colour"),
    "pages.tif": (tiff(9000, 1), "a TIFF of more than 8192 pages"),
    "one_page.tif": (tiff(200, 8000), "bytes of pixels, more than the limit"),
    "claims.nii": (nifti(VOXELS, dim=SIDES), "bytes of pixels, more than the limit"),
    "claims.nii.gz": (gzip.compress(nifti(VOXELS, dim=SIDES)), "bytes of pixels, more than the limit"),
    "long.nii.gz": (nifti_bomb(1 << 26, nib.Nifti2Image, dim=[3, 1, 1, 1 << 28, 1, 1, 1, 1]), "268435456 slices"),
    "far.nii.gz": (nifti_bomb(1 << 26, nib.Nifti2Image, vox_offset=1 << 33), "truncated"),
    "bomb.nii.gz": (nifti_bomb(5 << 30), "unpacks to more than 4294967296 bytes"),
    "nan.nii": (nifti(np.full((8, 8, 3), np.nan, np.float32)), "no finite value"),
    "inf.nii": (nifti(np.full((8, 8, 3), np.inf, np.float32)), "no finite value"),
    "flat.nii": (nifti(np.full((8, 8, 3), 7, np.int16)), "empty: --min-foreground leaves no slice of it"),
    "negative.nii": (nifti(VOXELS, dim=[3, -5, 6, 7, 1, 1, 1, 1]), "shape of"),
    "no_pixels.dcm": (without_pixels(), "DICOM without pixels"),
    "frames.dcm": (dicom(values(), NumberOfFrames=10**9), "1000000000 slices"),
    "slope.dcm": (dicom(values(), RescaleSlope="nan"), "slope nan"),
    "bomb.dcm": (deflated_bomb(3 << 30), "unpacks to more than 2147483648 bytes"),
    "items.dcm": (items_bomb((1 << 21) + 1), "more than 2097152 items"),
    "rle.dcm": (rle_bomb(), "more pixel data than its header claims"),
    "jpeg.dcm": (jpeg_in_dicom(60000), "decompression bomb|exceeds limit"),
}
"""Each with what is said of it."""
