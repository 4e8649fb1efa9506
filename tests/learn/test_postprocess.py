from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_tlseg.errors import InputError
from napari_tlseg.learn.postprocess import Postprocess

TWO = ("background", "disc")
LUNG = ("background", "lung", "infection")
volumes = arrays(np.uint8, (4, 9, 8), elements=st.sampled_from([0, 0, 1, 1, 2]))
rules = st.builds(
    Postprocess,
    opening=st.sampled_from([0, 1, 2.5]),
    closing=st.sampled_from([0, 1, 2.5]),
    fill_holes=st.booleans(),
    smallest=st.sampled_from([0, 6]),
    largest_only=st.booleans(),
)


def clean(labels, spacing=(1.0, 1.0, 1.0), classes=TWO, roi=None, **rules):
    labels = np.asarray(labels, np.uint8)
    before = labels.copy()
    result = Postprocess(**rules).apply(labels, spacing=spacing, classes=classes, roi=roi)
    assert result.dtype == np.uint8
    assert (labels == before).all()
    return result


def ball(radius, spacing):
    reach = [int(radius / size) for size in spacing]
    axes = np.meshgrid(*(size * np.arange(-r, r + 1) for r, size in zip(reach, spacing, strict=True)), indexing="ij")
    return sum(axis**2 for axis in axes) <= radius**2


def block(shape, *boxes):
    """Labels 1, 2, … in boxes of (start, stop) per axis; one label may have several: (label, box)."""
    labels = np.zeros(shape, np.uint8)
    for label, box in boxes:
        labels[tuple(slice(*edges) for edges in box)] = label
    return labels


@pytest.mark.parametrize("name", ["smallest", "opening", "closing"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_wrong_size_is_refused_in_a_sentence(name, value):
    with pytest.raises(InputError, match=f"{name} must be 0 or more, not"):
        Postprocess(**{name: value})


@given(volumes)
@settings(deadline=None)
def test_by_default_nothing_changes(labels):
    assert (clean(labels, classes=("background", "disc", "cup")) == labels).all()


def test_small_components_go_by_volume():
    labels = block((4, 9, 9), (1, ((0, 1), (0, 2), (0, 3))), (1, ((2, 4), (5, 9), (5, 9))))
    assert (clean(labels, smallest=6) == labels).all()
    assert clean(labels, smallest=6.1).sum() == 32
    assert (clean(labels, spacing=(5.0, 0.5, 0.5), smallest=7.5) == labels).all()  # 6 voxels of 1.25 mm³
    assert clean(labels, spacing=(5.0, 0.5, 0.5), smallest=7.6).sum() == 32
    assert clean(labels, smallest=33).sum() == 0


def test_small_components_of_an_image_go_by_area():
    labels = block((1, 6, 6), (1, ((0, 1), (0, 2), (0, 2))), (1, ((0, 1), (3, 6), (3, 6))))
    assert (clean(labels, spacing=(0.1, 0.1), smallest=0.04) == labels).all()
    assert clean(labels, spacing=(0.1, 0.1), smallest=0.05).sum() == 9


def test_components_hold_together_across_corners_and_planes():
    diagonal = np.eye(4, dtype=np.uint8)[:, :, None] * np.eye(4, dtype=np.uint8)[:, None, :]  # (n, n, n) alone
    assert (clean(diagonal, smallest=4) == diagonal).all()


def test_only_the_largest_component_of_each_class():
    labels = block(
        (1, 8, 8), (1, ((0, 1), (0, 3), (0, 3))), (1, ((0, 1), (6, 8), (0, 2))), (2, ((0, 1), (5, 6), (5, 6)))
    )
    expected = np.where(labels == 1, 0, labels)
    expected[0, :3, :3] = 1
    assert (clean(labels, classes=("background", "disc", "cup"), largest_only=True) == expected).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 1.0, 0.5), (5.0, 0.7, 0.7)])
@pytest.mark.parametrize("radius", [0.4, 1.0, 2.5])
def test_opening_and_closing_are_those_of_a_ball(spacing, radius):
    noise = np.random.default_rng(0).random((12, 24, 24))
    inner = (slice(2, -2), slice(7, -7), slice(7, -7))  # the border is another question
    labels = np.zeros(noise.shape, np.uint8)
    labels[inner] = ndimage.gaussian_filter(noise, 1)[inner] > 0.5
    element = ball(radius, spacing)
    opened = ndimage.binary_dilation(ndimage.binary_erosion(labels, element), element)
    assert (clean(labels, spacing, opening=radius) == opened).all()
    closed = ndimage.binary_erosion(ndimage.binary_dilation(np.pad(labels, 9), element), element)
    assert (clean(labels, spacing, closing=radius) == closed[9:-9, 9:-9, 9:-9]).all()


def test_a_single_plane_is_closed_as_an_image():
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[0, 5:-5, 5:-5] = np.random.default_rng(0).random((20, 20)) > 0.6
    element = ball(2, (1, 1))
    closed = ndimage.binary_closing(labels[0], element)
    assert (clean(labels, spacing=(1.0, 1.0), closing=2)[0] == closed).all()
    assert (clean(labels, spacing=(0.5, 1.0, 1.0), closing=2)[0] == closed).all()


@given(volumes)
@settings(deadline=None)
def test_only_the_ratio_of_radius_and_spacing_matters(labels):
    tenths = clean(labels, (0.1, 0.1, 0.1), classes=("background", "a", "b"), opening=0.3, closing=0.3)
    assert (tenths == clean(labels, classes=("background", "a", "b"), opening=3, closing=3)).all()


def test_a_body_cut_by_the_edge_of_the_image_is_not_shaved_there():
    labels = block((6, 10, 10), (1, ((0, 6), (0, 10), (0, 7))))
    assert (clean(labels, opening=3) == labels).all()
    assert (clean(labels, closing=3) == labels).all()


def test_opening_cuts_a_thin_bridge():
    labels = block(
        (1, 9, 20), (1, ((0, 1), (1, 8), (1, 8))), (1, ((0, 1), (1, 8), (12, 19))), (1, ((0, 1), (4, 5), (7, 13)))
    )
    opened = clean(labels, opening=2)
    assert opened[0, 4, 10] == 0
    assert ndimage.label(opened[0])[1] == 2
    assert clean(labels, opening=2, largest_only=True).sum() == opened.sum() / 2


def test_holes_are_filled_from_background_only():
    labels = block(
        (1, 9, 9), (1, ((0, 1), (1, 8), (1, 8))), (0, ((0, 1), (3, 6), (3, 6))), (2, ((0, 1), (4, 5), (4, 5)))
    )
    filled = clean(labels, classes=LUNG, fill_holes=True)
    assert filled[0, 4, 4] == 2
    assert (filled == 1).sum() == 48
    assert (filled[0, 0] == 0).all()


def test_a_hole_of_a_volume_is_closed_on_all_sides():
    tube = block((5, 7, 7), (1, ((0, 5), (1, 6), (1, 6))), (0, ((0, 5), (3, 4), (3, 4))))
    assert (clean(tube, fill_holes=True) == tube).all()  # open at both ends
    cavity = tube.copy()
    cavity[[0, -1], 3, 3] = 1
    assert clean(cavity, fill_holes=True).sum() == 125


def test_what_lies_outside_the_region_of_interest_goes_and_does_not_grow_back():
    labels = block((1, 6, 12), (1, ((0, 1), (1, 5), (1, 11))))
    roi = np.zeros(labels.shape, np.uint8)
    roi[..., :6] = 255
    expected = np.where(roi, labels, 0)
    assert (clean(labels, roi=roi) == expected).all()
    assert (clean(labels, roi=roi, closing=4, fill_holes=True) == expected).all()
    assert (clean(labels, roi=roi, keep_outside=True) == labels).all()


def test_holes_outside_the_region_of_interest_stay():
    ring = block((1, 9, 9), (1, ((0, 1), (1, 8), (1, 8))), (0, ((0, 1), (3, 6), (3, 6))))
    assert (clean(ring, roi=ring, fill_holes=True, closing=2) == ring).all()


def test_a_lone_opacity_outside_the_lung_goes():
    lung = (1, ((0, 3), (1, 9), (1, 9)))
    touching, far = (2, ((0, 2), (3, 5), (9, 11))), (2, ((0, 2), (3, 5), (14, 16)))
    labels = block((3, 10, 20), lung, touching, far)
    expected = block((3, 10, 20), lung, touching)
    assert (clean(labels, classes=LUNG) == expected).all()
    assert (clean(labels, classes=LUNG, keep_outside=True) == labels).all()
    assert (clean(labels, classes=("background", "Left lung", "Ground_glass")) == expected).all()


def test_an_opacity_in_a_hole_of_the_lung_is_in_the_lung():
    hole, opacity = (0, ((1, 6), (2, 7), (2, 7))), (2, ((3, 4), (4, 5), (4, 5)))
    labels = block((7, 9, 9), (1, ((0, 7), (0, 9), (0, 9))), hole, opacity)
    assert (clean(labels, classes=LUNG) == labels).all()


@pytest.mark.parametrize("classes", [("background", "lung", "trachea"), ("background", "heart", "infection")])
def test_organs_are_no_opacities(classes):
    labels = block((1, 9, 20), (1, ((0, 1), (1, 8), (1, 8))), (2, ((0, 1), (3, 5), (14, 16))))
    assert (clean(labels, classes=classes) == labels).all()


def test_without_any_lung_opacities_stay():
    labels = block((1, 9, 9), (2, ((0, 1), (3, 5), (3, 5))))
    assert (clean(labels, classes=LUNG) == labels).all()


@given(volumes, rules)
@settings(deadline=None, max_examples=60)
def test_no_class_takes_a_pixel_of_another(labels, rule):
    result = rule.apply(labels, spacing=(2.5, 1.0, 1.0), classes=("background", "a", "b"))
    changed = (labels != 0) & (result != labels)
    assert (result[changed] == 0).all()


@given(volumes, rules)
@settings(deadline=None, max_examples=60)
def test_planes_may_lie_in_memory_in_any_order(labels, rule):
    spacing, classes = (2.5, 1.0, 1.0), ("background", "a", "b")
    view = np.asfortranarray(labels)
    assert (
        rule.apply(view, spacing=spacing, classes=classes) == rule.apply(labels, spacing=spacing, classes=classes)
    ).all()


@given(volumes, rules, st.sampled_from(list(product((1, -1), repeat=3))))
@settings(deadline=None, max_examples=60)
def test_a_mirrored_volume_gives_the_mirrored_result(labels, rule, steps):
    if rule.largest_only:  # of two equals the first is kept
        rule = Postprocess(opening=rule.opening, closing=rule.closing, fill_holes=rule.fill_holes)
    flip = tuple(slice(None, None, step) for step in steps)
    results = [rule.apply(a, spacing=(2.5, 1.0, 1.0), classes=("background", "a", "b")) for a in (labels, labels[flip])]
    assert (results[0][flip] == results[1]).all()
