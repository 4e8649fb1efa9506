"""That an image, its mask and its click go together wherever chance takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from napari_tlseg.data.augment import Augment, Change

SIZE = 96
STILL = dict.fromkeys(("rotate", "zoom", "shift", "gamma", "contrast", "brightness", "noise"), 0)
MOVES = Augment(rotate=40, zoom=0.3, shift=0.1, flip_x=True, flip_y=True, gamma=0, contrast=0, brightness=0, noise=0)
seeds = st.integers(0, 2**32 - 1)


def blob(y, x, width=5.0):
    rows, columns = np.indices((SIZE, SIZE), np.float32)
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)).astype(np.float32)


@given(seeds, st.floats(30, 65), st.floats(30, 65))
def test_image_mask_and_click_move_together(seed, y, x):
    change = MOVES.draw(np.random.default_rng(seed), SIZE)
    new_y, new_x = change.point(y, x)
    assume(all(20 <= place <= SIZE - 21 for place in (new_y, new_x)))  # else some of the blob may have left
    image, mask = change.image(blob(y, x)[None])[0], change.labels((blob(y, x) > 0.5).astype(np.uint8))
    assert np.hypot(*np.subtract(ndimage.center_of_mass(image), (new_y, new_x))) < 0.05
    assert np.hypot(*np.subtract(ndimage.center_of_mass(mask), (new_y, new_x))) < 0.75  # whole pixels
    seen = image > 0.5
    assert 2 * (seen & (mask == 1)).sum() / (seen.sum() + mask.sum()) > 0.85


@given(seeds, st.integers(1, 3))
def test_no_augmentation_changes_no_bit(seed, channels):
    rng = np.random.default_rng(seed)
    image, labels = rng.random((channels, 33, 33), np.float32), rng.integers(0, 4, (33, 33)).astype(np.uint8)
    change = Augment(**STILL).draw(rng, 33)
    assert change.image(image).tobytes() == image.tobytes()
    assert change.labels(labels).tobytes() == labels.tobytes()
    assert change.point(7.25, 30.5) == (7.25, 30.5)


@pytest.mark.parametrize(("flip", "expected"), [("flip_x", (20, SIZE - 1 - 30)), ("flip_y", (SIZE - 1 - 20, 30))])
def test_a_mirror_is_exact_and_comes_half_the_time(flip, expected):
    augment, rng = Augment(**STILL | {flip: True}), np.random.default_rng(0)
    image = rng.random((1, SIZE, SIZE), np.float32)
    mirrored = 0
    for _ in range(200):
        change = augment.draw(rng, SIZE)
        if change.point(20, 30) != (20, 30):
            mirrored += 1
            assert change.point(20, 30) == expected
            assert (change.image(image)[0] == np.flip(image[0], 1 if flip == "flip_x" else 0)).all()
    assert 70 < mirrored < 130


@given(seeds)
def test_the_same_seed_draws_the_same_change(seed):
    image = blob(40, 50)[None]
    first, second = (Augment().draw(np.random.default_rng(seed), SIZE) for _ in range(2))
    assert first.image(image).tobytes() == second.image(image).tobytes()
    assert first.point(40, 50) == second.point(40, 50)
    other = Augment().draw(np.random.default_rng(seed + 1), SIZE)
    assert other.point(40, 50) != first.point(40, 50)


@given(seeds)
def test_values_stay_between_0_and_1_and_labels_stay_labels(seed):
    rng = np.random.default_rng(seed)
    change = Augment(gamma=1, contrast=0.9, brightness=0.5, noise=0.5).draw(rng, 40)
    image = change.image(rng.random((2, 40, 40), np.float32))
    assert image.dtype == np.float32
    assert 0 <= image.min() and image.max() <= 1
    assert set(np.unique(change.labels(np.full((40, 40), 3, np.uint8)))) <= {0, 3}


def test_what_comes_in_from_outside_is_black_and_background():
    change = Augment(**STILL | {"shift": 0.4}).draw(np.random.default_rng(3), SIZE)
    outside = change.labels(np.ones((SIZE, SIZE), np.uint8)) == 0
    image = change.image(np.ones((1, SIZE, SIZE), np.float32))[0]
    assert outside.any()
    assert (image[outside] < 0.5).all()
    assert (image[ndimage.binary_erosion(~outside, iterations=2, border_value=1)] == 1).all()


def test_the_channels_of_an_image_move_alike():
    change = MOVES.draw(np.random.default_rng(1), SIZE)
    one, other = change.image(np.stack([blob(40, 50), blob(40, 50) / 2]))
    assert np.allclose(one / 2, other, atol=1e-5)


def test_every_intensity_change_shows():
    image = np.full((1, 8, 8), 0.5, np.float32)
    for name, most in {"gamma": 0.3, "contrast": 0.3, "brightness": 0.3, "noise": 0.3}.items():
        changed = Augment(**STILL | {name: most}).draw(np.random.default_rng(0), 8).image(image)
        assert not np.array_equal(changed, image), name


def test_noise_stays_out_of_what_surrounds_the_picture():
    image = np.zeros((1, SIZE, SIZE), np.float32)
    image[:, 30:60] = 0.5
    change = Augment(**STILL | {"noise": 0.3}).draw(np.random.default_rng(0), SIZE)
    changed = change.image(image)[0]
    assert not changed[:30].any() and not changed[60:].any()
    assert changed[30:60].std() > 0.01


@given(seeds)
def test_a_resized_crop_shows_a_part_of_the_image_and_nothing_from_outside(seed):
    change = Augment(**STILL | {"crop": 0.4}).draw(np.random.default_rng(seed), SIZE)
    larger = change.matrix[0, 0]
    assert 1 <= larger**2 <= 1 / 0.4 and (change.matrix[:, :2] == larger * np.eye(2)).all()
    corners = [change.point(y, x) for y in (-0.5, SIZE - 0.5) for x in (-0.5, SIZE - 0.5)]
    assert min(min(corners)) <= -0.5 + 1e-9 and max(max(corners)) >= SIZE - 0.5 - 1e-9
    whole = change.image(np.ones((1, SIZE, SIZE), np.float32))
    assert whole[0, 1:-1, 1:-1].min() > 0.99


def test_what_comes_sometimes_comes_as_often_as_it_is_said_to():
    rng, augment = np.random.default_rng(0), Augment(**STILL | {"grey": 0.2, "stretch": 0.5})
    changes = [augment.draw(rng, SIZE) for _ in range(400)]
    assert 50 < sum(change.grey for change in changes) < 110
    assert 160 < sum(change.stretch for change in changes) < 240


@given(seeds)
def test_what_never_comes_changes_no_chance_of_the_rest(seed):
    ones = [augment.draw(np.random.default_rng(seed), SIZE) for augment in (MOVES, replace(MOVES, grey=0.5))]
    assert (ones[0].matrix == ones[1].matrix).all() and ones[0].seed == ones[1].seed


def test_grey_and_stretched_leave_black_black():
    rng = np.random.default_rng(0)
    image = (0.3 + 0.2 * rng.random((3, 20, 20))).astype(np.float32)
    image[:, :5] = 0
    still = Change(matrix=np.eye(2, 3))
    grey = replace(still, grey=True).image(image)
    assert np.allclose(grey, grey[:1]) and (grey[:, :5] == 0).all()
    assert np.allclose(grey[0], 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2], atol=1e-6)
    stretched = replace(still, stretch=True).image(image)
    assert (stretched[:, :5] == 0).all() and np.allclose(stretched.max((1, 2)), 1)
    assert 0 < stretched[:, 5:].min() < 0.01
    one = replace(still, grey=True, stretch=True).image(np.full((1, 4, 4), 0.5, np.float32))
    assert (one == 0.5).all()  # of one channel there is no grey, and of one value nothing to stretch
