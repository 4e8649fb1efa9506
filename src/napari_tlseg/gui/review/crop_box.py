"""What the network looked at of the case shown, as a thin box on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
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
            canvas.put(ROLE, box_layer(found.case, found.crop))


def box_layer(case: Case, crop: Crop) -> LayerData:
    """A rectangle around the pixels of the crop, of a volume one in each plane that was looked at."""
    top, left, height, width = crop.box
    ys, xs = (top - 0.5, top + height - 0.5), (left - 0.5, left + width - 0.5)
    corners = np.array([(ys[0], xs[0]), (ys[0], xs[1]), (ys[1], xs[1]), (ys[1], xs[0])])
    volume = len(case.geometry.shape) == 3
    boxes = [np.insert(corners, 0, plane, axis=1) for plane in crop.planes] if volume else [corners]
    look = {
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_color": COLOUR,
        "edge_width": max(case.geometry.plane_shape[1:]) / 300,
    }
    return boxes, {"name": "what was looked at", **placement(case.geometry), **look}, "shapes"
