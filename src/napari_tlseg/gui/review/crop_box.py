"""What the network looked at of the case shown, as a thin box on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtWidgets import QCheckBox

from napari_tlseg.data.case import Case
from napari_tlseg.data.crops import Crop
from napari_tlseg.gui.canvas.layers import LayerData, placement
from napari_tlseg.gui.notices import guarded

if TYPE_CHECKING:
    from napari_tlseg.gui.review.predictions import Found
    from napari_tlseg.gui.session import Session

ROLE = "crop"
COLOUR = "#4fc3f7"
FINE = 300
"""The rim is one of so many parts of the image's longer side thick."""


class CropBox(QCheckBox):
    """A tick that shows the box or not; there only where the run looked at a crop."""

    def __init__(self, session: Session) -> None:
        tip = "The run looked at this part of the image alone: nothing is found outside it"
        super().__init__("Show the crop that was looked at", objectName="crop", toolTip=tip, checked=True)
        self._session = session
        self._found: Found | None = None
        self.setVisible(False)
        self.toggled.connect(guarded(self._draw))

    def setFound(self, found: Found | None) -> None:
        self._found = found
        self.setVisible(found is not None and found.crop is not None)
        self._draw()

    def _draw(self) -> None:
        found, canvas = self._found, self._session.canvas
        if found is None or found.crop is None or not self.isChecked():
            canvas.remove(ROLE)
        else:
            canvas.put(ROLE, box_layer(found.case, found.crop)).editable = False


def box_layer(case: Case, crop: Crop) -> LayerData:
    """A rim of labels along the crop, of a volume in the planes that were looked at.

    No rectangle of a Shapes layer: where that is taken away, napari 0.9 crashes on Mesa at the next drawing.
    """
    rim = max(1, round(max(case.geometry.plane_shape[1:]) / FINE))
    plane = np.ones((crop.box.height, crop.box.width), np.uint8)
    plane[rim:-rim, rim:-rim] = 0
    place = placement(case.geometry)
    first: tuple[int, ...] = (crop.box.top, crop.box.left)
    data: NDArray[np.uint8] = plane
    if len(case.geometry.shape) == 3:
        first, data = (crop.planes.start, *first), np.broadcast_to(plane, (len(crop.planes), *plane.shape))
    place["translate"] = tuple(np.add(place["translate"], np.multiply(first, place["scale"])))
    colours = DirectLabelColormap(color_dict={None: "transparent", 1: COLOUR})
    return data, {"name": "what was looked at", **place, "colormap": colours, "opacity": 1.0}, "labels"
