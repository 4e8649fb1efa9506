"""Whatever the stored orientation, what is learned from looks the same, and everything finds its way back."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from napari_tlseg.data.geometry import Geometry

ORIENTATIONS = [
    "".join(codes[place] for place in order) for codes in product("RL", "AP", "SI") for order in permutations(range(3))
]
RAS = np.array([[1.5, 0, 0, -7], [0, 2, 0, 11], [0, 0, 4, -100], [0, 0, 0, 1]], dtype=float)
PHANTOM = np.random.default_rng(0).integers(0, 1000, (5, 6, 7))
"""(i, j, k) in RAS."""


def _rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(4), [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _stored(codes: str, array: NDArray[np.int64], affine: NDArray[np.float64]) -> tuple[NDArray[np.int64], Geometry]:
    """An (i, j, k) array and its affine as a file in this orientation would hold them."""
    change = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    stored = nib.apply_orientation(array, change).T
    turned = affine @ inv_ornt_aff(change, array.shape)
    spacing = tuple(map(float, nib.affines.voxel_sizes(turned)[::-1]))
    return stored, Geometry(shape=stored.shape, spacing=spacing, unit="mm", affine=turned)


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.25)], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_planes_do_not_depend_on_the_stored_orientation(codes: str, tilt: tuple[float, float, float]) -> None:
    stored, geometry = _stored(codes, PHANTOM, _rotation(tilt) @ RAS)
    planes = geometry.to_planes(stored)
    np.testing.assert_array_equal(planes, PHANTOM[::-1, ::-1].T)  # superior, posterior, left
    np.testing.assert_array_equal(geometry.from_planes(planes), stored)
    assert geometry.plane_shape == planes.shape
    assert geometry.plane_spacing == pytest.approx((4, 2, 1.5))
    assert geometry.pixel_size == pytest.approx(12)


@given(codes=st.sampled_from(ORIENTATIONS), point=st.tuples(*(st.integers(0, side - 1) for side in PHANTOM.shape)))
def test_a_point_stays_on_its_voxel(codes: str, point: tuple[int, int, int]) -> None:
    marked = np.zeros_like(PHANTOM)
    marked[point] = 1
    stored, geometry = _stored(codes, marked, RAS)
    where = tuple(map(float, np.argwhere(stored)[0]))
    plane, y, x = geometry.point_to_planes(where)
    assert geometry.to_planes(stored)[plane, int(y), int(x)] == 1
    assert geometry.point_from_planes(plane, y, x) == where


@given(codes=st.sampled_from(ORIENTATIONS), y=st.floats(0, 5), x=st.floats(0, 4), plane=st.integers(0, 6))
def test_points_between_voxels_come_back(codes: str, plane: int, y: float, x: float) -> None:
    _, geometry = _stored(codes, PHANTOM, RAS)
    back = geometry.point_to_planes(geometry.point_from_planes(plane, y, x))
    assert back == pytest.approx((plane, y, x), abs=1e-9)
    assert isinstance(back[0], int)


@given(codes=st.sampled_from(ORIENTATIONS), channels=st.integers(1, 4))
def test_a_trailing_channel_axis_stays_behind(codes: str, channels: int) -> None:
    stored, geometry = _stored(codes, PHANTOM, RAS)
    colours = np.stack([stored + channel for channel in range(channels)], axis=-1)
    planes = geometry.to_planes(colours)
    assert planes.shape == (*geometry.plane_shape, channels)
    np.testing.assert_array_equal(planes[..., 0], geometry.to_planes(stored))
    np.testing.assert_array_equal(geometry.from_planes(planes), colours)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_plane_is_named_by_its_stored_index(codes: str) -> None:
    stored, geometry = _stored(codes, PHANTOM, RAS)
    axis = 2 - next(place for place, code in enumerate(codes) if code in "SI")
    planes = geometry.to_planes(stored)
    for plane in range(len(planes)):
        slab = stored.take(geometry.stored_plane(plane), axis=axis)
        assert np.sort(slab, axis=None).tolist() == np.sort(planes[plane], axis=None).tolist()


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize(
    ("slab", "upright"),
    [
        (np.s_[2:3, :, :], PHANTOM[2, ::-1, ::-1].T),  # sagittal: rows to inferior, columns to posterior
        (np.s_[:, 3:4, :], PHANTOM[::-1, 3, ::-1].T),  # coronal: rows to inferior, columns to left
        (np.s_[:, :, 1:2], PHANTOM[::-1, ::-1, 1].T),  # axial: rows to posterior, columns to left
    ],
    ids=["sagittal", "coronal", "axial"],
)
def test_a_single_slice_is_one_plane(codes: str, slab: tuple[slice, ...], upright: NDArray[np.int64]) -> None:
    stored, geometry = _stored(codes, PHANTOM[slab], RAS)
    planes = geometry.to_planes(stored)
    np.testing.assert_array_equal(planes, upright[None])
    np.testing.assert_array_equal(geometry.from_planes(planes), stored)
    assert geometry.stored_plane(0) == 0


def test_an_image_is_one_plane_as_it_lies() -> None:
    geometry = Geometry(shape=(4, 5), spacing=(2.0, 3.0))
    array = np.arange(60).reshape(4, 5, 3)
    planes = geometry.to_planes(array)
    np.testing.assert_array_equal(planes, array[None])
    np.testing.assert_array_equal(geometry.from_planes(planes), array)
    assert geometry.plane_shape == (1, 4, 5)
    assert geometry.plane_spacing == (2, 3)
    assert geometry.point_to_planes((1.5, 2.5)) == (0, 1.5, 2.5)
    assert geometry.point_from_planes(0, 1.5, 2.5) == (1.5, 2.5)
    assert geometry.stored_plane(0) == 0


def test_a_volume_without_orientation_is_taken_as_it_lies() -> None:
    geometry = Geometry(shape=PHANTOM.shape, spacing=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(geometry.to_planes(PHANTOM), PHANTOM)
    assert geometry.point_to_planes((2.4, 1.0, 3.0)) == (2, 1.0, 3.0)


def test_planes_are_a_view() -> None:
    stored, geometry = _stored("ILP", PHANTOM, RAS)
    assert np.shares_memory(stored, geometry.to_planes(stored))
    assert np.shares_memory(stored, geometry.from_planes(geometry.to_planes(stored)))
