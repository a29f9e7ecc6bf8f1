"""Readers fed with anything give slices or a reason: no other end, no waiting, no memory without bound."""

import gzip
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_tools.catalog import FileRow
from data_tools.decode import Decoder, DecodeSettings
from tests.data_tools.dicoms import SYNTAXES, dicom, values
from tests.data_tools.readers.test_nifti import VOXELS, nifti
from tests.data_tools.slices import brain


def image(kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(brain()).save(buffer, kind, **options)
    return buffer.getvalue()


GOOD = {
    **{kind: image(kind) for kind in ("png", "jpeg", "bmp", "tiff")},
    "nifti": nifti(VOXELS),
    "nifti.gz": gzip.compress(nifti(VOXELS), mtime=0),
    **{f"dicom {syntax}": dicom(values(), syntax=syntax) for syntax in SYNTAXES},
}


def decode(data: bytes, folder: Path) -> None:
    """Decode ``data`` as a file; nothing may be raised, and whatever comes out is whole."""
    (folder / "file").write_bytes(data)
    for is_dicom in (False, True):
        row = FileRow("file", len(data), "file", None, None, None, is_dicom)
        decoder = Decoder(DecodeSettings(folder, "auto", 0, None, 0.0, "none"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = decoder.decode([row])
        assert result.slices or result.unreadable
        assert all("\n" not in reason for reason in result.unreadable.values())
        for _, encoded in result.slices:
            size = encoded.height * encoded.width * np.dtype(encoded.dtype).itemsize
            assert len(encoded.chunk) == size + 4
            assert 0 <= encoded.position <= 1
            assert np.isfinite(encoded.window).all()


FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.mark.parametrize("kind", GOOD)
def test_good_files_decode(kind: str, tmp_path: Path) -> None:
    decode(GOOD[kind], tmp_path)


@pytest.mark.parametrize("kind", GOOD)
@FUZZ
@given(data=st.data())
def test_files_with_bytes_changed(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    damaged = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers are where lies have the largest effect.
        place = data.draw(st.one_of(st.integers(0, min(400, len(damaged) - 1)), st.integers(0, len(damaged) - 1)))
        patch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 8])))
        damaged[place : place + len(patch)] = patch
    decode(bytes(damaged), tmp_path)


@pytest.mark.parametrize("kind", GOOD)
@FUZZ
@given(share=st.floats(0, 1))
def test_files_cut_short(kind: str, share: float, tmp_path: Path) -> None:
    decode(GOOD[kind][: int(share * len(GOOD[kind]))], tmp_path)


@FUZZ
@given(data=st.binary(max_size=2000), kind=st.sampled_from([b"", *(good[:140] for good in GOOD.values())]))
def test_noise_after_a_good_beginning(data: bytes, kind: bytes, tmp_path: Path) -> None:
    decode(kind + data, tmp_path)
