"""A user's mouse and keys on the canvas of a viewer, as Qt delivers them, and what the user is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton

MOVE = 12
"""Milliseconds between two moves: vispy swallows those that come faster."""


class Hands:
    """Places are pixels of a layer: (y, x), or (plane, y, x) of a volume."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    @property
    def canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas.native

    def where(self, layer: Layer, *place: float) -> QPointF:
        """On the canvas."""
        world = np.array(layer.data_to_world(place))
        shown = [axis - self.viewer.dims.ndim + layer.ndim for axis in self.viewer.dims.displayed]
        camera = getattr(self.viewer, "scene", self.viewer).camera
        off = (world[shown] - np.array(camera.center)[-2:]) * camera.zoom
        return QPointF(self.canvas.width() / 2 + off[1], self.canvas.height() / 2 + off[0])

    def click(self, layer: Layer, *place: float) -> None:
        self.drag(self.where(layer, *place))

    def drag(self, *places: QPointF) -> None:
        """Press at the first, move over the others, release at the last."""
        self.send(QEvent.Type.MouseButtonPress, places[0], LEFT, LEFT)
        for place in places[1:]:
            QTest.qWait(MOVE)
            self.send(QEvent.Type.MouseMove, place, NONE, LEFT)
        self.send(QEvent.Type.MouseButtonRelease, places[-1], LEFT, NONE)

    def drag_pixels(self, layer: Layer, *places: tuple[float, ...]) -> None:
        self.drag(*(self.where(layer, *place) for place in places))

    def double_click(self, layer: Layer, *place: float) -> None:
        where = self.where(layer, *place)
        self.drag(where)
        self.send(QEvent.Type.MouseButtonDblClick, where, LEFT, LEFT)
        self.send(QEvent.Type.MouseButtonRelease, where, LEFT, NONE)

    def press(self, key: Qt.Key, modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """To what has the focus, as a keyboard does."""
        QTest.keyClick(self.viewer.window._qt_window.focusWidget() or self.canvas, key, modifiers)

    def send(self, kind: QEvent.Type, place: QPointF, button: Qt.MouseButton, held: Qt.MouseButton) -> None:
        everywhere = self.canvas.mapToGlobal(place)
        event = QMouseEvent(kind, place, everywhere, button, held, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)
