"""DICOM files as bytes, for tests."""

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

from tests.data_tools.slices import Pixels

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]


def values(seed: int = 0, signed: bool = False, frames: int = 0) -> Pixels:
    low = -2000 if signed else 0
    shape = (frames, 7, 9) if frames else (7, 9)
    return np.random.default_rng(seed).integers(low, 4000, shape).astype(np.int16 if signed else np.uint16)


def dicom(pixels: Pixels, *, syntax: Any = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """The bytes of an MR image, or of a multi-frame one, with further elements."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "p", "1.2", "1.2.1"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype == np.int16)
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    big = syntax == ExplicitVRBigEndian
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    dataset["PixelData"].VR = "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    if syntax == RLELossless:
        dataset.compress(RLELossless, encoding_plugin="pydicom")
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=not big, enforce_file_format=True)
    return buffer.getvalue()


def at(height: float, pixels: Pixels, **elements: Any) -> bytes:
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, height]}
    return dicom(pixels, **(place | elements))
