from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from napari_tlseg.data import overlay
from napari_tlseg.data.overlay import (
    DIFFERENCES,
    FN,
    FP,
    PALETTES,
    TN,
    TP,
    Counts,
    caption,
    confusion_map,
    confusion_planes,
    describe,
    displayable,
    paint,
    worst_plane,
    write_overlay,
)

GREEN, RED, YELLOW, BLACK = (0, 255, 0), (255, 0, 0), (255, 255, 0), (0, 0, 0)
ALL_FOUR = np.array([[TN, FP, FN, TP]], np.uint8)
label_images = arrays(np.uint8, (3, 5, 4), elements=st.integers(0, 2))

# Machado et al. (2009), severity 1, on linear RGB
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


def words(parts):
    return "".join(word for word, _ in parts)


@given(label_images, label_images, st.integers(1, 2))
@settings(deadline=None)
def test_confusion_is_that_of_four_masks(truth, prediction, label):
    confusion = confusion_map(truth, prediction, label)
    true, given_ = truth == label, prediction == label
    expected = np.select([true & given_, true & ~given_, ~true & given_], [TP, FN, FP], TN)
    assert confusion.dtype == np.uint8
    assert (confusion == expected).all()


def test_a_wrong_class_is_missed_for_one_and_false_for_the_other():
    truth, prediction = np.array([[1]], np.uint8), np.array([[2]], np.uint8)
    assert (confusion_map(truth, prediction, 1), confusion_map(truth, prediction, 2)) == (FN, FP)


@given(label_images, label_images, st.integers(1, 2), st.none() | st.sets(st.integers(0, 2)))
def test_planes_are_counted_where_there_is_a_truth(truth, prediction, label, painted):
    confusion, counts = confusion_planes(truth, prediction, label, painted)
    expected = confusion_map(truth, prediction, label)
    assert (confusion.dtype, len(counts)) == (np.uint8, 3)
    for index, (plane, found) in enumerate(zip(confusion, counts, strict=True)):
        if painted is None or index in painted:
            assert (plane == expected[index]).all()
            tally = np.bincount(plane.ravel(), minlength=4)
            assert found == Counts(tp=tally[TP], fp=tally[FP], fn=tally[FN])
        else:
            assert found is None and not plane.any()


def test_dice_is_of_the_sum_of_planes_and_undefined_without_a_target():
    planes = [Counts(tp=3, fp=1), Counts(), Counts(fn=1)]
    assert [each.dice for each in planes] == [6 / 7, None, 0]
    assert sum(planes, Counts()) == Counts(tp=3, fp=1, fn=1)
    assert sum(planes, Counts()).dice == 0.75


def test_classic_colours_are_those_of_the_paper():
    assert PALETTES["classic"] == (BLACK, RED, YELLOW, GREEN)
    painted = paint(np.full((1, 4), 90, np.uint8), ALL_FOUR, alpha=1)
    assert [tuple(pixel) for pixel in painted[0]] == [(90, 90, 90), RED, YELLOW, GREEN]


def test_colour_blind_colours_are_those_of_okabe_and_ito():
    painted = paint(np.zeros((1, 4), np.uint8), ALL_FOUR, palette="colour-blind", alpha=1)
    assert painted[0].tolist() == [[0, 0, 0], [213, 94, 0], [240, 228, 66], [86, 180, 233]]


@pytest.mark.parametrize("deficiency", [DEUTERANOPIA, PROTANOPIA])
def test_the_safe_palette_is_better_told_apart_without_red_green_vision(deficiency):
    def nearest(colours):
        linear = (np.array(colours[1:]) / 255) ** 2.2
        seen = np.clip(linear @ np.array(deficiency).T, 0, 1) ** (1 / 2.2)
        return min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))

    for palettes in (PALETTES, DIFFERENCES):
        assert nearest(palettes["colour-blind"]) > 0.3
    assert nearest(PALETTES["colour-blind"]) > nearest(PALETTES["classic"])


def test_alpha_mixes_image_and_colour():
    image = np.full((1, 4, 3), 100, np.uint8)
    assert (paint(image, ALL_FOUR, alpha=0) == image).all()
    assert paint(image, ALL_FOUR, alpha=0.4)[0, 3].tolist() == [60, 162, 60]


def test_an_outline_leaves_the_inside_to_the_image():
    image, confusion = np.full((7, 7), 50, np.uint8), np.zeros((7, 7), np.uint8)
    confusion[1:6, 1:6] = TP
    painted = paint(image, confusion, outline=True)
    assert (painted[2:5, 2:5] == 50).all()
    rim = confusion.astype(bool)
    rim[2:5, 2:5] = False
    assert (painted[rim] == GREEN).all()
    assert (painted[~rim] == 50).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (4,)])
def test_any_image_can_be_shown(dtype, shape):
    image = np.linspace(0, 100, 30 * int(np.prod(shape)), dtype=dtype).reshape(5, 6, *shape)
    picture = displayable(image)
    assert (picture.shape, picture.dtype) == ((5, 6, 3), np.uint8)
    if dtype != np.uint8:
        assert (picture.min(), picture.max()) == (0, 255)


def test_an_8_bit_image_is_shown_as_it_is_and_without_alpha():
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    assert (displayable(image) == image[..., :3]).all()


def test_a_window_is_in_the_values_of_the_image():
    ct = np.array([[-2000, -1000, -500, 0, 3000]], np.int16)
    assert displayable(ct, (-1000, 0))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_one_bright_pixel_does_not_darken_the_image():
    ct = np.random.default_rng(0).normal(0, 10, (100, 100)).astype(np.float32)
    ct[0, 0] = 1e6
    assert 100 < np.median(displayable(ct)) < 155


def test_a_constant_image_is_black():
    assert not displayable(np.full((3, 3), 7.5)).any()


def test_the_worst_plane_has_most_wrong_pixels_then_most_target():
    confusion = np.zeros((4, 3, 3), np.uint8)
    assert worst_plane(confusion) in range(4)
    confusion[0] = TP
    assert worst_plane(confusion) == 0
    confusion[1, 0, :2] = FP, FN
    confusion[2, 0, :2] = FN, FN
    assert worst_plane(confusion) == 2
    confusion[3, 0] = FP
    assert worst_plane(confusion) == 3


@given(label_images, label_images)
@settings(deadline=None)
def test_counts_are_told_with_dice(truth, prediction):
    text = words(describe(confusion_map(truth, prediction)))
    _, tp, _, fp, _, fn, _, dice = text.split()
    tp, fp, fn = int(tp), int(fp), int(fn)
    assert (tp + fn, tp + fp) == ((truth == 1).sum(), (prediction == 1).sum())
    assert dice == (f"{2 * tp / (2 * tp + fp + fn):.3f}" if tp + fp + fn else "-")


def test_counts_are_told_in_the_colours_of_the_palette():
    colours = {word.split()[0]: colour for word, colour in describe(ALL_FOUR)}
    assert colours == {"TP": GREEN, "FP": RED, "FN": YELLOW, "Dice": (255, 255, 255)}


@pytest.mark.parametrize("width", [40, 384, 1000])
def test_a_caption_fits_beneath_the_picture(width):
    picture = np.full((30, width, 3), 7, np.uint8)
    whole = caption(picture, [("läsion: ", (255, 255, 255)), *describe(ALL_FOUR)])
    assert (whole[:30] == picture).all()
    strip = whole[30:].max(axis=2)
    assert strip.any()
    assert not strip[:, -1].any()
    assert not strip[[0, -1]].any()


def test_the_overlay_of_a_volume_shows_each_class_of_its_worst_plane(tmp_path):
    truth, prediction = np.zeros((3, 40, 50), np.uint8), np.zeros((3, 40, 50), np.uint8)
    truth[:, 5:20, 5:20], prediction[:, 5:20, 5:20] = 1, 1
    truth[1, 25:35, 25:35], prediction[1, 25:35, 30:40] = 2, 2
    ct = np.full((3, 40, 50, 1), -600, np.int16)
    path = tmp_path / "overlays" / "ct.png"
    classes = ("background", "lung", "infection")
    write_overlay(path, ct, truth, prediction, classes=classes, alpha=1, window=(-1000, 0))
    with Image.open(path) as file:
        sheet = np.array(file)
    zoom = 384 // 50
    assert sheet.shape[1:] == (2 * 50 * zoom, 3)
    lung, infection = (sheet[: 40 * zoom : zoom, start : start + 50 * zoom : zoom] for start in (0, 50 * zoom))
    for panel, label in ((lung, 1), (infection, 2)):
        expected = paint(ct[1], confusion_map(truth[1], prediction[1], label), alpha=1, window=(-1000, 0))
        assert (panel == expected).all()
    assert sheet[40 * zoom :].any()
    assert [entry.name for entry in path.parent.iterdir()] == ["ct.png"]


def test_the_caption_has_the_number_of_the_plane(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(overlay, "caption", lambda picture, words: said.append(words[0][0]) or picture)
    truth = np.zeros((2, 40, 50), np.uint8)
    truth[1, :9] = 1
    stacks = (np.zeros((2, 40, 50), np.uint8), truth, np.zeros_like(truth))
    write_overlay(tmp_path / "ct.png", *stacks, classes=("background", "lung"), numbers=[7, 31])
    assert said == ["lung, z = 31:   "]


def test_the_overlay_of_a_photograph_keeps_its_pixels(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (1, 400, 500, 3), np.uint8)
    nothing = np.zeros((1, 400, 500), np.uint8)
    write_overlay(tmp_path / "eye.png", photo, nothing, nothing, classes=("background", "disc"))
    with Image.open(tmp_path / "eye.png") as file:
        assert (np.array(file)[:400] == photo[0]).all()
