"""That the way to the square and back keeps every place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from napari_tlseg.data.letterbox import Letterbox

SHAPES = st.tuples(st.integers(1, 400), st.integers(1, 400)) | st.sampled_from(
    [(1, 1), (1, 400), (400, 1), (3, 1000), (1000, 2), (400, 600), (913, 1024)]
)
FRAMES = st.builds(Letterbox, SHAPES, st.sampled_from([1, 8, 32, 192, 256]))


def box_in(shape, least, corner, extent):
    """A mask with one rectangle of at least `least` (y, x) pixels, or the whole side; shares place it."""
    mask = np.zeros(shape, np.uint8)
    sides = [
        length if length <= few else few + round((length - few) * share)
        for length, few, share in zip(shape, least, extent, strict=True)
    ]
    starts = [round((length - side) * share) for length, side, share in zip(shape, sides, corner, strict=True)]
    mask[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = 1
    return mask


@given(FRAMES, st.floats(-0.5, 1000), st.floats(-0.5, 1000))
def test_points_go_and_come_back(frame, y, x):
    assert frame.native_point(*frame.point(y, x)) == pytest.approx((y, x), abs=1e-9)


@given(FRAMES)
def test_the_outer_edges_of_the_picture_lie_on_those_of_the_window(frame):
    top, left = frame.corner
    first = frame.point(-0.5, -0.5)
    last = frame.point(frame.shape[0] - 0.5, frame.shape[1] - 0.5)
    assert first == pytest.approx((top - 0.5, left - 0.5))
    assert last == pytest.approx((top + frame.inner[0] - 0.5, left + frame.inner[1] - 0.5))
    assert max(frame.inner) == frame.size


@given(FRAMES)
def test_nothing_is_stretched_by_more_than_the_rounding_to_whole_pixels(frame):
    scale = frame.size / max(frame.shape)
    for side, inner in zip(frame.shape, frame.inner, strict=True):
        assert abs(inner - side * scale) <= 0.5 or inner == 1


shares = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(FRAMES, shares, shares)
def test_an_object_keeps_its_centre_of_mass_there_and_back(frame, corner, extent):
    least = [int(np.ceil(2 * side / inner)) + 1 for side, inner in zip(frame.shape, frame.inner, strict=True)]
    mask = box_in(frame.shape, least, corner, extent)
    native = ndimage.center_of_mass(mask)
    square = frame.labels(mask)
    there = ndimage.center_of_mass(square)
    assert np.abs(np.subtract(there, frame.point(*native))).max() <= 0.5 + 1e-6
    probability = frame.native(square[None].astype(np.float32))[0]
    back = ndimage.center_of_mass(probability > 0.5)
    assert probability.shape == frame.shape
    coarser = max(1.0, max(frame.shape) / frame.size)
    assert np.abs(np.subtract(back, frame.native_point(*there))).max() <= 0.5 * coarser + 1e-6


@given(FRAMES, shares, shares)
def test_brightness_moves_as_the_point_does(frame, corner, extent):
    mask = box_in(frame.shape, (3, 3), corner, extent).astype(np.float32)
    square = frame.image(mask[..., None])[..., 0]
    assume(square.any())
    expected = frame.point(*ndimage.center_of_mass(mask))
    assert np.abs(np.subtract(ndimage.center_of_mass(square), expected)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (2, 1000)])
def test_a_thin_image_is_averaged_too(shape):
    comb = (np.indices(shape).sum(0) % 10 == 0).astype(np.float32)
    frame = Letterbox(shape, 100)
    square = frame.image(comb[..., None])[..., 0]
    assert square.sum() == pytest.approx(0.1 * np.prod(frame.inner), rel=0.01)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_labels_and_values_are_exact_where_nothing_is_scaled(height, width, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (height, width)).astype(np.uint8)
    values = rng.random((height, width, 3), np.float32)
    frame = Letterbox((height, width), max(height, width))
    top, left = frame.corner
    window = slice(top, top + height), slice(left, left + width)
    assert frame.inner == (height, width)
    assert (frame.labels(labels)[window] == labels).all()
    assert (frame.image(values)[window] == values).all()
    one_hot = (frame.labels(labels) == np.arange(4)[:, None, None]).astype(np.float32)
    assert (frame.native(one_hot).argmax(0) == labels).all()


def test_outside_the_picture_is_zero():
    frame = Letterbox((50, 100), 64)
    ones = frame.image(np.ones((50, 100, 2), np.float32))
    assert frame.inner == (32, 64)
    assert frame.corner == (16, 0)
    assert ones[16:48] == pytest.approx(1)
    assert not ones[:16].any() and not ones[48:].any()
    assert not frame.labels(np.ones((50, 100), np.uint8))[:16].any()


def test_the_way_back_is_opencvs_linear_interpolation_of_the_window():
    square = np.random.default_rng(0).random((3, 96, 96), np.float32)
    found = Letterbox((300, 200), 96).native(square)
    assert found.shape == (3, 300, 200)
    for channel, native in zip(square, found, strict=True):
        expected = cv2.resize(np.ascontiguousarray(channel[:, 16:80]), (200, 300), interpolation=cv2.INTER_LINEAR)
        assert (native == expected).all()


def test_each_pixel_takes_the_class_that_fills_most_of_it():
    native = np.zeros((4, 4), np.uint8)
    native[:2, :2] = [[1, 1], [1, 2]]  # most of it 1
    native[:2, 2:] = [[2, 0], [2, 2]]  # most of it 2
    native[2:, 2:] = [[1, 0], [0, 0]]  # most of it background
    assert Letterbox((4, 4), 2).labels(native).tolist() == [[1, 2], [0, 0]]


CENTRES = st.tuples(st.floats(-300, 700), st.floats(-300, 700))
CROPS = st.builds(
    Letterbox.around,
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.sampled_from([1, 8, 32, 100, 192]),
    CENTRES,
    st.floats(0.5, 600),
)


@given(CROPS, st.floats(-400, 800), st.floats(-400, 800))
def test_points_go_into_a_crop_and_come_back(frame, y, x):
    assert frame.native_point(*frame.point(y, x)) == pytest.approx((y, x), abs=1e-9)


@given(SHAPES, st.sampled_from([32, 192]), CENTRES, st.floats(1, 600))
def test_the_middle_of_a_crop_is_its_centre_to_half_a_pixel(shape, size, centre, side):
    frame = Letterbox.around(shape, size, centre, side)
    middle = frame.native_point((size - 1) / 2, (size - 1) / 2)
    assert np.abs(np.subtract(middle, centre)).max() <= 0.5 + 1e-9
    first, last = frame.native_point(-0.5, -0.5), frame.native_point(size - 0.5, size - 0.5)
    assert np.subtract(last, first) == pytest.approx(frame.box.height)  # the square is filled, in both directions
    assert abs(frame.box.height - max(1, side)) <= 0.5


def ramp(y, x):
    """A picture whose value says where a pixel is; any mean of it over a pixel is its value in the middle."""
    return (0.25 * np.asarray(y) + 0.5 * np.asarray(x)).astype(np.float32)


@given(CROPS)
def test_a_crop_shows_what_a_direct_computation_finds_there(frame):
    """In both directions; half a pixel is at most 0.375 on the ramp."""
    rows, columns = np.indices(frame.shape)
    square = frame.image(ramp(rows, columns)[..., None])[..., 0]
    y, x = np.indices(square.shape)
    there = np.stack(frame.native_point(y, x))
    pixel = max(1.0, frame.box.height / frame.size)
    last = np.subtract(frame.shape, 1)[:, None, None]
    shown = ((there >= pixel) & (there <= last - pixel)).all(0)
    outside = ((there < -pixel) | (there > last + pixel)).any(0)
    assert np.abs(square - ramp(*there))[shown].max(initial=0) <= 0.375
    assert not square[outside].any()

    back = frame.native(ramp(y, x)[None])[0]
    here = np.stack(frame.point(rows, columns))
    inside = ((here >= 0) & (here <= frame.size - 1)).all(0)
    beyond = ((here < -0.5 - 1e-6) | (here > frame.size - 0.5 + 1e-6)).any(0)
    assert back.shape == frame.shape
    assert np.abs(back - ramp(*here))[inside].max(initial=0) <= 0.375 * max(1.0, frame.size / frame.box.height)
    assert not back[beyond].any()


@given(st.sampled_from([32, 100, 192]), st.floats(1.2, 3), st.integers(20, 150), shares, shares)
def test_an_object_keeps_its_place_in_a_crop_there_and_back(size, multiple, extent, place, off):
    """One that lies within the crop, which may overhang the plane, and is not lost in one of its pixels."""
    corner = [round(share * (300 - extent)) for share in place]
    mask = np.zeros((300, 300), np.uint8)
    mask[tuple(slice(start, start + extent) for start in corner)] = 1
    centre = np.add(corner, (extent - 1) / 2)
    room = (multiple - 1) / 2 * extent - 1
    frame = Letterbox.around((300, 300), size, tuple(centre + (2 * np.array(off) - 1) * room), multiple * extent)
    pixel = max(1.0, frame.box.height / size)
    square = frame.labels(mask)
    there = ndimage.center_of_mass(square)
    assert np.abs(np.subtract(frame.native_point(*there), centre)).max() <= 0.5 * pixel + 1e-6
    back = ndimage.center_of_mass(frame.native(square[None].astype(np.float32))[0] > 0.5)
    assert np.abs(np.subtract(back, frame.native_point(*there))).max() <= 0.5 * pixel + 1e-6


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), CENTRES)
def test_a_crop_that_is_not_scaled_is_a_copy(height, width, side, centre):
    labels = np.random.default_rng(0).integers(0, 4, (height, width)).astype(np.uint8)
    centre = tuple(place % 60 - 10 for place in centre)
    frame = Letterbox.around((height, width), side, centre, side)
    padded = np.pad(labels, 100)
    top, left = frame.box[:2]
    direct = padded[100 + top : 100 + top + side, 100 + left : 100 + left + side]
    assert (frame.labels(labels) == direct).all()
    assert (frame.image(labels[..., None].astype(np.float32))[..., 0] == direct).all()
    one_hot = (direct == np.arange(4)[:, None, None]).astype(np.float32)
    kept = np.zeros_like(labels)
    rows, columns = slice(max(0, top), max(0, top + side)), slice(max(0, left), max(0, left + side))
    kept[rows, columns] = labels[rows, columns]
    assert (frame.native(one_hot).argmax(0) == kept).all()


def test_a_crop_beside_the_plane_is_empty():
    frame = Letterbox.around((20, 30), 16, (200, -300), 40)
    assert not frame.image(np.ones((20, 30, 1), np.float32)).any()
    assert not frame.labels(np.ones((20, 30), np.uint8)).any()
    assert not frame.native(np.ones((1, 16, 16), np.float32)).any()


@given(SHAPES, st.sampled_from([32, 192]))
def test_the_whole_of_a_square_plane_is_a_crop_of_it(shape, size):
    """The letterbox is the crop that holds everything."""
    side = max(shape)
    crop = Letterbox.around((side, side), size, ((side - 1) / 2, (side - 1) / 2), side)
    plane = np.random.default_rng(0).random((side, side, 1), np.float32)
    assert (crop.image(plane) == Letterbox((side, side), size).image(plane)).all()
    assert crop.point(3, 4) == pytest.approx(Letterbox((side, side), size).point(3, 4))
