"""The error overlay: one layer of ours over the image, in the colours that the legend names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tlseg.data.overlay import DIFFERENCES, FN, FP, PALETTES, TN, TP, Counts
from napari_tlseg.gui.canvas.roles import Canvas
from napari_tlseg.gui.contributions.sample_data import chest_ct_phantom
from napari_tlseg.gui.review.overlay import ErrorOverlay

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image
    from pytestqt.qtbot import QtBot

CLASSES = ("background", "lung", "infection")
TRUTH = np.zeros((3, 4, 6), np.uint8)
TRUTH[:, 1:3, 1:4] = 1
TRUTH[1, 3, 5] = 2
FOUND = np.zeros_like(TRUTH)
FOUND[:, 1:3, 2:5] = 1


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(ViewerModel())


@pytest.fixture
def image(canvas: Canvas) -> Image:
    place = {"scale": (5, 0.7, 0.8), "translate": (-40, 3, 9), "units": ("mm",) * 3}
    return canvas.viewer.add_image(np.zeros(TRUTH.shape), name="chest", **place)


def seen(overlay: ErrorOverlay) -> dict[int, tuple[int, ...]]:
    """RGBA of each code, 0 to 255."""
    colours = overlay.layer.colormap.map(np.array([TN, FP, FN, TP], np.uint8))
    return {code: tuple(np.round(255 * colours[code]).astype(int)) for code in (TN, FP, FN, TP)}


def test_errors_lie_on_the_image_in_the_colours_of_the_paper(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.show(TRUTH, FOUND, image)
    layer = overlay.layer
    assert (layer.data.dtype, layer.name) == (np.uint8, "errors: chest")
    assert layer.data[0, 1].tolist() == [TN, FN, TP, TP, FP, TN]
    assert seen(overlay) == {TN: (0, 0, 0, 0), FP: (255, 0, 0, 255), FN: (255, 255, 0, 255), TP: (0, 255, 0, 255)}
    for place in ("scale", "translate", "units"):
        np.testing.assert_array_equal(getattr(layer, place), getattr(image, place))
    assert canvas.viewer.layers.selection.active is image, "the user's tool stays where it was"


def test_counts_are_of_a_slice_and_of_the_case(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    assert overlay.counts() is None
    overlay.show(TRUTH, FOUND, image, 1, CLASSES)
    assert overlay.counts(0) == Counts(tp=4, fp=2, fn=2)
    assert overlay.counts() == Counts(tp=12, fp=6, fn=6)
    assert overlay.counts().dice == pytest.approx(2 / 3)
    overlay.set_label(2)
    assert overlay.counts() == Counts(fn=1)
    assert overlay.counts(0).dice is None, "in neither mask"
    assert overlay.layer.name == "errors: chest (infection)"
    assert overlay.layer.data.sum() == FN


def test_a_plane_that_is_not_painted_is_not_judged(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.show(TRUTH, FOUND, image, painted=(0, 2))
    assert overlay.counts(1) is None
    assert overlay.counts() == Counts(tp=8, fp=4, fn=4)
    assert not overlay.layer.data[1].any()
    overlay.show(TRUTH, FOUND, image, painted=())
    assert overlay.counts() is None


def test_the_look_changes_colours_only(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.show(TRUTH, FOUND, image)
    data = overlay.layer.data
    overlay.set_palette("colour-blind")
    overlay.set_shown({FP, FN})
    assert overlay.layer.data is data
    red, yellow = (PALETTES["colour-blind"][code] for code in (FP, FN))
    assert seen(overlay) == {TN: (0, 0, 0, 0), FP: (*red, 255), FN: (*yellow, 255), TP: (0, 0, 0, 0)}
    overlay.set_shown(())
    assert not any(colour[3] for colour in seen(overlay).values())


def test_the_look_stays_with_the_next_case(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.set_palette("colour-blind")
    overlay.set_outline(True)
    overlay.show(TRUTH, FOUND, image)
    before = overlay.layer
    overlay.show(TRUTH, FOUND[::-1].copy(), image)
    assert overlay.layer is before and before.contour == 1
    assert seen(overlay)[TP] == (*PALETTES["colour-blind"][TP], 255)
    photograph = canvas.viewer.add_image(np.zeros((2048, 2048, 3), np.uint8), name="eye", rgb=True)
    mask = np.ones((1, 2048, 2048), np.uint8)
    overlay.show(mask, mask, photograph)
    assert overlay.layer is not before and before not in canvas.viewer.layers
    assert (overlay.layer.ndim, overlay.layer.contour) == (2, 4), "of a large image, seen small, thicker"
    overlay.show(mask[:, :512, :512], mask[:, :512, :512], canvas.viewer.add_image(np.zeros((512, 512))))
    assert overlay.layer.contour == 1


def test_regions_and_outlines_keep_the_opacity_that_the_user_gave_them(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.show(TRUTH, FOUND, image)
    overlay.layer.opacity = 0.3
    overlay.set_outline(True)
    assert (overlay.layer.opacity, overlay.layer.contour) == (1, 1)
    overlay.set_outline(False)
    assert (overlay.layer.opacity, overlay.layer.contour) == (0.3, 0)


def test_nobody_paints_in_it_by_mistake(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    for change in (lambda: overlay.show(TRUTH, FOUND, image), lambda: overlay.set_label(2), lambda: None):
        change()
        overlay.layer.mode = "paint"
        assert not overlay.layer.editable and overlay.layer.mode == "pan_zoom"


def test_shuffled_colours_come_back(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.show(TRUTH, FOUND, image)
    right = seen(overlay)
    overlay.layer.new_colormap(3)  # napari's button 'Shuffle colors'
    assert seen(overlay) == right


def test_a_deleted_layer_comes_back_with_the_next_case(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    mine = canvas.viewer.add_labels(TRUTH.copy(), name="errors: chest")
    overlay.show(TRUTH, FOUND, image)
    first = overlay.layer
    canvas.viewer.layers.remove(first)
    for change in (
        lambda: overlay.set_label(2),
        lambda: overlay.set_palette("colour-blind"),
        lambda: overlay.set_shown({FP}),
        lambda: overlay.set_outline(True),
    ):
        change()
        assert overlay.layer is None and list(canvas.viewer.layers) == [image, mine]
    overlay.show(TRUTH, FOUND, image)
    assert overlay.layer is not first and overlay.layer.contour == 1
    assert seen(overlay) == {TN: (0,) * 4, FP: (*PALETTES["colour-blind"][FP], 255), FN: (0,) * 4, TP: (0,) * 4}
    overlay.clear()
    assert list(canvas.viewer.layers) == [image, mine] and overlay.counts() is None
    assert (mine.data == TRUTH).all() and mine.editable


def test_two_predictions_differ_without_one_being_wrong(canvas: Canvas, image: Image) -> None:
    overlay = ErrorOverlay(canvas)
    overlay.show(TRUTH, FOUND, image, 2, CLASSES)
    overlay.disagreement(FOUND, TRUTH, image, 1, CLASSES, names=("λ = 1", "λ = 0"))
    only_a, only_b, both = (overlay.meaning.hints[code] for code in (FP, FN, TP))
    assert (only_a, only_b, both) == ("Found only by A: λ = 1", "Found only by B: λ = 0", "Found by both")
    assert overlay.layer.data[0, 1].tolist() == [TN, FN, TP, TP, FP, TN]
    assert seen(overlay)[FP] == (*DIFFERENCES["classic"][FP], 255)
    assert overlay.layer.name == "A and B: chest (lung)"
    overlay.show(TRUTH, FOUND, image)
    assert seen(overlay)[FP] == (255, 0, 0, 255)


@pytest.mark.window
def test_the_overlay_follows_the_slice_on_the_screen(viewer: Viewer, qtbot: QtBot) -> None:
    planes, about, _ = chest_ct_phantom()[0]
    image = viewer.add_image(planes, **about)
    truth = np.zeros(planes.shape, np.uint8)
    truth[10, 32:96, 32:96] = 1
    overlay = ErrorOverlay(Canvas(viewer))
    overlay.show(truth, truth, image)

    def green() -> float:
        """Share of the canvas that is plainly green."""
        red, green, blue = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int).transpose(2, 0, 1)
        return float(((green > red + 60) & (green > blue + 60)).mean())

    viewer.dims.set_current_step(0, 10)
    qtbot.waitUntil(lambda: green() > 0.05)
    filled = green()
    overlay.set_outline(True)
    qtbot.waitUntil(lambda: 0 < green() < filled / 4)
    viewer.dims.set_current_step(0, 11)
    qtbot.waitUntil(lambda: green() == 0)
    viewer.dims.set_current_step(0, 10)
    qtbot.waitUntil(lambda: green() > 0)
    overlay.set_shown({FP, FN})
    qtbot.waitUntil(lambda: green() == 0)
