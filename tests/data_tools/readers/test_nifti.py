import gzip
import tracemalloc
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data_tools.choices import Axis
from data_tools.readers.formats import read_file
from data_tools.readers.slice import UnreadableError, Volume
from tests.data_tools.slices import Pixels

VOXELS = np.random.default_rng(0).integers(-500, 4000, (5, 6, 7)).astype(np.int16)


def nifti(voxels: Pixels, affine: Pixels | None = None, kind: Any = nib.Nifti1Image, **header: Any) -> bytes:
    """The bytes of a file, with fields of its header then set to what nibabel would not write."""
    image = kind(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype)
    data = image.to_bytes()
    changed = kind.header_class(data[: kind.header_class.sizeof_hdr])
    for name, value in header.items():
        changed[name] = value
    return bytes(changed.binaryblock + data[len(changed.binaryblock) :])


def read(data: bytes, axis: Axis = "auto", volume: int = 0) -> Volume:
    return read_file(data, axis=axis, volume=volume)


def stack(volume: Volume) -> Pixels:
    return np.stack([placed.slice.pixels for placed in volume.slices])


def affine_of(codes: str) -> Pixels:
    """An affine whose voxel axes point in the directions of ``codes``, such as PSR."""
    ornt = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign
    return affine


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_values_of_every_variant(wrap: Callable[[bytes], bytes], kind: Any, order: str) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    image = kind(VOXELS, np.eye(4), header=header)
    found = stack(read(wrap(image.to_bytes())))
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, np.moveaxis(VOXELS, 2, 0))


@pytest.mark.parametrize(("axis", "world"), [("sagittal", 0), ("coronal", 1), ("axial", 2), ("auto", 2)])
@pytest.mark.parametrize("codes", ["RAS", "LAS", "PSR", "SPL", "AIR", "IRP"])
def test_planes_are_chosen_by_the_affine_whatever_the_order_of_axes(axis: Axis, world: int, codes: str) -> None:
    data = nifti(VOXELS, affine_of(codes))
    order = [int(number) for number in nib.orientations.axcodes2ornt(codes)[:, 0]]
    in_world = VOXELS.transpose(np.argsort(order))  # axes in the order right, anterior, superior; directions as stored
    np.testing.assert_array_equal(stack(read(data, axis)), np.moveaxis(in_world, world, 0))


def test_slices_have_index_and_position() -> None:
    volume = read(nifti(VOXELS))
    assert [placed.index for placed in volume.slices] == list(range(7))
    assert [placed.position for placed in volume.slices] == [number / 6 for number in range(7)]


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 1, 1)])
def test_a_2d_file_is_one_slice_as_it_is_stored(shape: tuple[int, ...]) -> None:
    voxels = VOXELS[:, :, 0].reshape(shape)
    np.testing.assert_array_equal(stack(read(nifti(voxels), "sagittal")), VOXELS[None, :, :, 0])


def test_a_volume_of_a_series_is_chosen() -> None:
    series = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=-1)
    for wrap in (bytes, gzip.compress):
        found = stack(read(wrap(nifti(series)), volume=2))
        np.testing.assert_array_equal(found, np.moveaxis(VOXELS + 2, 2, 0))
    with pytest.raises(UnreadableError, match="no volume 3; it has 3"):
        read(nifti(series), volume=3)


def test_slope_and_intercept_are_recorded_not_applied() -> None:
    (first, *_) = read(nifti(VOXELS, scl_slope=0.5, scl_inter=-3)).slices
    assert (first.slice.slope, first.slice.intercept) == (0.5, -3)
    np.testing.assert_array_equal(first.slice.pixels, VOXELS[:, :, 0])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0, -5, 30000], np.int32), "int16"),
        (np.array([0, 5, 60000], np.int32), "uint16"),
        (np.array([0, -5, 1 << 24], np.int32), "float32"),
        (np.array([0, 0.5, 2.0**100]), "float32"),
        (np.array([0, np.nan, np.inf]), "float32"),
        (np.array([0, 5, 127], np.int8), "int16"),
    ],
)
def test_wide_types_become_smaller_ones_where_exact(values: Pixels, dtype: str) -> None:
    found = stack(read(nifti(values.reshape(3, 1, 1).repeat(2, axis=1))))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.ravel()[::2].astype(values.dtype), values)


@pytest.mark.parametrize("value", [(1 << 24) + 1, 0.1])
def test_what_does_not_fit_exactly_is_refused(value: float) -> None:
    with pytest.raises(UnreadableError, match="exactly"):
        read(nifti(np.array([[value, -1.0]]).astype(np.int32 if value > 1 else np.float64)))


def test_colour_and_complex_voxels_are_refused() -> None:
    rgb = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for voxels in (rgb, np.ones((4, 4, 4), np.complex64)):
        with pytest.raises(UnreadableError, match="not supported"):
            read(nifti(voxels))


def test_a_header_that_claims_too_much_costs_no_memory() -> None:
    tracemalloc.start()
    for dims in ([3, 30000, 30000, 30000, 1, 1, 1, 1], [3, 2000, 1000, 200, 1, 1, 1, 1]):
        for wrap in (bytes, gzip.compress):
            with pytest.raises(UnreadableError, match=r"claims|truncated"):
                read(wrap(nifti(VOXELS, dim=dims)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_damage_anywhere_in_a_gzip_file_is_noticed() -> None:
    data = gzip.compress(nifti(VOXELS), mtime=0)
    for byte in range(len(data) * 1 // 3, len(data), 7):
        damaged = bytearray(data)
        damaged[byte] ^= 8
        with pytest.raises(Exception):  # noqa: B017
            read(bytes(damaged))


def test_a_truncated_file_is_noticed() -> None:
    for wrap in (bytes, gzip.compress):
        data = wrap(nifti(VOXELS))
        with pytest.raises(UnreadableError, match="truncated"):
            read(data[:-40])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"bitpix": 8}, "claims 8 bits a voxel of type int16"),
        ({"datatype": 2}, "claims 16 bits a voxel of type uint8"),
        ({"scl_slope": np.inf}, "a slope of inf"),
        ({"dim": [3, 16, 32, 8, 1, 1, 1, 1]}, "holds 8192 bytes more"),
        ({"dim": [3, 32, 32, 7, 1, 1, 1, 1]}, "holds 2048 bytes more"),
        ({"dim": [2, 32, 32, 8, 1, 1, 1, 1]}, "holds 14336 bytes more"),
    ],
)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_a_header_that_contradicts_the_file_is_named(
    wrap: Callable[[bytes], bytes], header: dict[str, Any], reason: str
) -> None:
    voxels = np.arange(32 * 32 * 8, dtype=np.int16).reshape(32, 32, 8)
    with pytest.raises(UnreadableError, match=reason):
        read(wrap(nifti(voxels, **header)))
    for none in (0, np.nan):  # is what libraries write for no slope at all
        assert len(read(wrap(nifti(voxels, scl_slope=none) + bytes(500))).slices) == 8


def test_voxels_follow_the_header_where_no_offset_is_given() -> None:
    np.testing.assert_array_equal(stack(read(nifti(VOXELS, vox_offset=0))), np.moveaxis(VOXELS, 2, 0))


def test_half_of_a_pair_is_named() -> None:
    with pytest.raises(UnreadableError, match="two-file"):
        read(nifti(VOXELS, magic=b"ni1"))


def test_other_gzip_files_are_named() -> None:
    with pytest.raises(UnreadableError, match="holds no NIfTI"):
        read(gzip.compress(b"hello" * 100))
