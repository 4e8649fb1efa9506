"""The plugin in a real napari window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.folder import read_dataset
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window


def canvas(viewer: Viewer) -> np.ndarray:
    """What is on the canvas: (Y, X, 3) uint8."""
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3]


def test_fundus_phantoms_open_with_discs_and_clicks(viewer: Viewer) -> None:
    viewer.open_sample("napari-tlseg", "fundus")
    photographs, discs, clicks = viewer.layers
    assert (photographs._type_string, discs._type_string, clicks._type_string) == ("image", "labels", "points")
    assert photographs.rgb and photographs.data.shape[:-1] == discs.data.shape
    assert viewer.dims.ndim == 3 and len(clicks.data) == len(discs.data)
    for index, *centre in clicks.data:
        assert discs.data[int(index), *np.round(centre).astype(int)] == 1, "each click lies on its disc"


def test_chest_ct_phantom_opens_in_millimetres(viewer: Viewer) -> None:
    viewer.open_sample("napari-tlseg", "chest_ct")
    image, lungs = viewer.layers
    assert image.data.min() < -900 and image.data.max() > 200, "HU, from air to bone"
    assert {str(unit) for unit in image.units} == {"millimeter"}
    np.testing.assert_array_equal(lungs.scale, image.scale)
    assert lungs.units == image.units and lungs.data.shape == image.data.shape
    assert image.data[lungs.data > 0].mean() < -500, "the labels lie on the lungs"


@pytest.mark.parametrize("sample", ["fundus", "chest_ct"])
def test_a_sample_and_its_labels_are_seen(viewer: Viewer, qtbot: QtBot, sample: str) -> None:
    viewer.open_sample("napari-tlseg", sample)
    viewer.dims.set_point(0, viewer.dims.range[0].stop / 2)
    qtbot.waitUntil(lambda: canvas(viewer).mean() > 20 and len(np.unique(canvas(viewer))) > 50)
    labels = viewer.layers[1]
    with_labels = canvas(viewer)
    labels.visible = False
    qtbot.waitUntil(lambda: (canvas(viewer) != with_labels).any(axis=-1).mean() > 0.002)


@pytest.mark.parametrize("write", [write_eyes, write_chests])
def test_an_image_and_its_mask_lie_over_each_other(
    viewer: Viewer, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    case = read_dataset(write(tmp_path / "data")).labelled[0]
    from napari_tlseg.gui.show import show

    show(viewer, case.image, case.mask)
    image, mask = viewer.layers
    assert (image._type_string, mask._type_string) == ("image", "labels")
    np.testing.assert_array_equal(mask.data.reshape(case.geometry.plane_shape), read_mask(case, 256))
    np.testing.assert_array_equal(mask.scale, image.scale[-mask.ndim :])
    np.testing.assert_array_equal(mask.translate, image.translate[-mask.ndim :])
