import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from data_tools.readers.dicom import read_key, read_series
from data_tools.readers.formats import sniff
from data_tools.readers.slice import Volume
from tests.data_tools.dicoms import SYNTAXES, at, dicom, values
from tests.data_tools.slices import Pixels


def stack(volume: Volume) -> Pixels:
    assert not volume.unreadable
    return np.stack([placed.slice.pixels for placed in volume.slices])


def files_of(volume: Volume) -> list[int]:
    return [placed.file for placed in volume.slices]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("frames", [0, 3])
def test_stored_values_of_every_encoding(syntax: Any, signed: bool, frames: int) -> None:
    expected = values(signed=signed, frames=frames)
    found = stack(read_series([dicom(expected, syntax=syntax)]))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected.reshape(-1, 7, 9))


def test_a_file_is_known_by_its_content() -> None:
    for syntax in SYNTAXES:
        data = dicom(values(), syntax=syntax)
        assert sniff(data[:540]) == "dicom"


def pydicoms_own(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom was installed without {name}")
    return Path(str(path)).read_bytes()


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_pydicoms_own_files_read_as_pydicom_reads_them(name: str) -> None:
    expected = pixel_array(pydicom.dcmread(io.BytesIO(pydicoms_own("MR_small.dcm"))))
    np.testing.assert_array_equal(stack(read_series([pydicoms_own(name)]))[0], expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_from_before_part_10_are_read(syntax: Any) -> None:
    data = dicom(values(), syntax=syntax)
    start = 144 + int.from_bytes(data[140:144], "little")  # preamble, group 2 with its length first
    assert sniff(data[start:]) == "dicom"
    np.testing.assert_array_equal(stack(read_series([data[start:]]))[0], values())


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "MR_truncated.dcm", "examples_palette.dcm"])
def test_files_without_a_gray_picture_are_named(name: str) -> None:
    assert set(read_series([pydicoms_own(name)]).unreadable) == {0}


def test_a_series_is_sorted_by_position_not_by_name_or_number() -> None:
    heights = [3.0, -1.0, 10.0, 0.5]
    files = [at(h, values(n), InstanceNumber=n + 1) for n, h in enumerate(heights)]
    volume = read_series(files)
    assert files_of(volume) == [1, 3, 0, 2]
    assert [placed.index for placed in volume.slices] == [0, 1, 2, 3]
    assert [placed.position for placed in volume.slices] == [0, 1 / 3, 2 / 3, 1]


def test_sagittal_slices_are_sorted_along_their_own_normal() -> None:
    def sagittal(x: float) -> bytes:
        return dicom(values(), ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[x, 50 * x, 0])

    assert files_of(read_series([sagittal(x) for x in (2.0, 9.0, -4.0)])) == [1, 0, 2]


def test_without_positions_the_instance_number_sorts() -> None:
    volume = read_series([dicom(values(n), InstanceNumber=number) for n, number in enumerate((10, 9, 11))])
    assert files_of(volume) == [1, 0, 2]
    assert [placed.position for placed in volume.slices] == [0, 0.5, 1]


def test_echoes_at_one_place_share_a_position() -> None:
    files = [at(h, values(), InstanceNumber=n) for n, h in enumerate((0, 1, 2, 0, 1, 2))]
    volume = read_series(files)
    assert files_of(volume) == [0, 3, 1, 4, 2, 5]
    assert [placed.position for placed in volume.slices] == [0, 0, 0.5, 0.5, 1, 1]


def test_frames_of_an_enhanced_file_are_sorted_by_their_own_positions() -> None:
    def item(**elements: Any) -> pydicom.Dataset:
        dataset = pydicom.Dataset()
        for name, value in elements.items():
            setattr(dataset, name, value)
        return dataset

    def sequence(*items: pydicom.Dataset) -> Sequence[pydicom.Dataset]:
        return pydicom.Sequence(items)

    frames = [item(PlanePositionSequence=sequence(item(ImagePositionPatient=[0, 0, height]))) for height in (5, 1, 3)]
    shared = item(
        PlaneOrientationSequence=sequence(item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])),
        PixelValueTransformationSequence=sequence(item(RescaleSlope="2", RescaleIntercept="-7")),
    )
    data = dicom(
        values(frames=3),
        PerFrameFunctionalGroupsSequence=sequence(*frames),
        SharedFunctionalGroupsSequence=sequence(shared),
    )
    volume = read_series([data])
    np.testing.assert_array_equal(stack(volume), values(frames=3)[[1, 2, 0]])
    assert {(placed.slice.slope, placed.slice.intercept) for placed in volume.slices} == {(2.0, -7.0)}


def test_rescale_is_recorded_not_applied_and_monochrome1_is_inverted() -> None:
    (placed,) = read_series(
        [dicom(values(), RescaleSlope="0.5", RescaleIntercept="-1024", PhotometricInterpretation="MONOCHROME1")]
    ).slices
    assert (placed.slice.slope, placed.slice.intercept, placed.slice.inverted) == (0.5, -1024.0, True)
    np.testing.assert_array_equal(placed.slice.pixels, values())


def test_bits_that_lie_elsewhere_and_values_by_a_table_are_named() -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [1, 0, 16], b"\0\0"
    for elements, reason in (
        ({"HighBit": 15, "BitsStored": 12}, "its 12 bits end at bit 15 and not 11"),
        ({"ModalityLUTSequence": pydicom.Sequence([table])}, "Modality LUT"),
    ):
        assert reason in read_series([dicom(values(), **elements)]).unreadable[0]


def test_a_broken_file_does_not_stop_its_series() -> None:
    volume = read_series([at(0, values()), b"\0" * 128 + b"DICMxx", at(1, values()), None])
    assert files_of(volume) == [0, 2]
    assert set(volume.unreadable) == {1}


def test_a_header_that_claims_too_much_is_refused() -> None:
    for elements in ({"NumberOfFrames": 10**9}, {"Rows": 65535, "Columns": 65535}, {"Rows": 0}):
        assert set(read_series([dicom(values(), **elements)]).unreadable) == {0}


def test_the_series_of_a_file_is_read_without_its_pixels() -> None:
    data = dicom(values(), PatientID=" a ")
    assert read_key(io.BytesIO(data[: -len(values().tobytes())])) == ("a", "1.2", "1.2.1")


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_truncated_file_says_so_in_a_few_words(syntax: Any) -> None:
    data = dicom(values(), syntax=syntax)
    assert read_series([data[:-100]]).unreadable == {0: "truncated: 26 of 126 bytes of pixels are there"}
    reasons = [read_series([data[:length]]).unreadable[0] for length in range(200, len(data), 3)]
    assert max(map(len, reasons)) < 60
