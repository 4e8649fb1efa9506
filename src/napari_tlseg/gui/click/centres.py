"""The target's centre on the canvas: set by a click, moved by a drag, proposed by a localizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.case import Case
from napari_tlseg.data.guesses import Guess
from napari_tlseg.gui.canvas.layers import LayerData, placement
from napari_tlseg.gui.notices import guarded

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session

ROLE, PROPOSAL, DOUBT = "centre", "proposal", "doubt"
GRIP = 8.0
"""Screen pixels around the centre within which a drag moves it."""
STILL = 4.0
"""Screen pixels that the mouse may move in a click; more is a drag, which moves the view."""
ZOOM = "double_click_to_zoom"
"""What napari calls it."""


class Centres(QObject):
    """The click and the proposal of the case shown, with a ring of its doubt, each a layer of points; keys and mouse
    act while that of the click is the active layer, so that painting and napari's own tools stay as they are.
    """

    picked = Signal(object, bool)
    """Point in stored pixel indices; whether the centre was dragged there, or else clicked."""
    disturbed = Signal()
    """The layer shows something else than it was told."""
    turned = Signal()
    """Clicks on the canvas may count now, or no longer."""

    def __init__(self, session: Session, keys: Mapping[str, Callable[[], object]]) -> None:
        super().__init__(session)
        self._session, self._keys = session, keys
        self._armed: Points | None = None
        self._zoom: Callable[..., None] | None = None
        session.viewer.layers.selection.events.active.connect(self._turn)

    @property
    def active(self) -> bool:
        """Whether a click on the canvas would count."""
        layer = self._session.canvas.get(ROLE)
        return layer is not None and self._session.viewer.layers.selection.active is layer

    def show(self, case: Case, click: tuple[float, ...] | None, proposal: Guess | None) -> None:
        """Draw them over the image of the case; the radius of the ring is the doubt."""
        canvas = self._session.canvas
        guess = None if click is not None else proposal
        point, ring = (guess.point, 2 * (guess.doubt or 0)) if guess else (None, 0)
        if point or canvas.get(PROPOSAL) is not None:
            canvas.put(PROPOSAL, _points(case, point, "proposed centre", "magenta", "cross"))
        if ring or canvas.get(DOUBT) is not None:
            canvas.put(DOUBT, _points(case, point if ring else None, "doubt of the proposal", "magenta", "disc", ring))
        layer = canvas.put(ROLE, _points(case, click, "target centre", "cyan", "disc"))
        if layer is not self._armed:
            self._arm(layer)

    def activate(self) -> None:
        """Let clicks on the canvas count, and keys."""
        layer = self._session.canvas.get(ROLE)
        if layer is not None:
            self._session.viewer.layers.selection.active = layer
            self.focus()

    def focus(self) -> None:
        """Let keys go to the canvas."""
        self._session.viewer.window._qt_viewer.canvas.native.setFocus()

    def hide(self) -> None:
        """Take the layers away."""
        for role in (ROLE, PROPOSAL, DOUBT):
            self._session.canvas.remove(role)
        self._armed = None

    def _arm(self, layer: Points) -> None:
        self._armed = layer
        layer.events.mode.connect(self._keep_tool)
        layer.events.data.connect(self._mend)
        layer.mouse_drag_callbacks.append(self._mouse)
        for key, act in self._keys.items():
            layer.bind_key(key, lambda _, act=act: act(), overwrite=True)

    def _keep_tool(self, event: Any) -> None:
        """With napari's own tools for points the user would move the point, and not the click."""
        if event.source.mode != "pan_zoom":
            event.source.mode = "pan_zoom"

    def _mend(self, event: Any) -> None:
        """With napari's keys for points the user deleted or pasted one."""
        if event.action in ("added", "removed"):
            self.disturbed.emit()

    def _turn(self, _: Any = None) -> None:
        """Who clicks twice, out of habit, does not want to be zoomed into the next image."""
        callbacks = self._session.viewer.mouse_double_click_callbacks
        if self.active and self._zoom is None:
            self._zoom = next((each for each in callbacks if each.__name__ == ZOOM), None)
            if self._zoom is not None:
                callbacks.remove(self._zoom)
        elif not self.active and self._zoom is not None:
            callbacks.append(self._zoom)
            self._zoom = None
        self.turned.emit()

    def _mouse(self, layer: Points, event: Any) -> Iterator[None]:
        """A press: still until the release it is a click, from the centre on it drags that, else it moves the view."""
        if event.button != 1 or event.modifiers or len(event.dims_displayed) != 2:
            return
        case, camera, start = self._session.case, self._session.canvas.camera, event.pos
        held, before, pan = self._is_near(layer, event), layer.data.copy(), camera.mouse_pan
        camera.mouse_pan = pan and not held
        far = False
        yield
        while event.type == "mouse_move":
            far = far or _distance(start, event.pos) > STILL
            if far and held and (place := self._inside(layer, event.position)) is not None:
                layer.data = place[None]
            yield
        far = far or _distance(start, event.pos) > STILL  # of moves in quick succession not all are heard
        camera.mouse_pan = pan
        place = self._inside(layer, event.position)
        if case != self._session.case:  # a key was pressed meanwhile
            self.disturbed.emit()
            return
        if held and far:
            layer.data = before
        if place is not None and (held or not far):
            self._pick(place, dragged=held and far)

    @guarded
    def _pick(self, place: Any, *, dragged: bool) -> None:
        case = self._session.case
        if case is not None:
            plane, y, x = [0.0, *map(float, place)][-3:]
            self.picked.emit(case.geometry.point_from_planes(round(plane), round(y, 2), round(x, 2)), dragged)

    def _inside(self, layer: Points, position: Any) -> Any:
        """Where a place of the world lies in the image, in pixels of the layer; None beside the image."""
        image = self._session.image
        if image is None:
            return None
        place = np.asarray(layer.world_to_data(position), float)
        sides = np.array(image.data.shape[: layer.ndim])
        return place if ((place >= -0.5) & (place <= sides - 0.5)).all() else None

    def _is_near(self, layer: Points, event: Any) -> bool:
        """Whether the mouse is on the centre that is set, in the slice shown."""
        if not len(layer.data):
            return False
        mouse = np.asarray(layer.world_to_data(event.position), float)
        shown = [axis - len(event.position) + layer.ndim for axis in event.dims_displayed]
        off = np.abs(mouse - layer.data[0])
        pixels = off[shown] * np.abs(layer.scale[shown]) * self._session.canvas.camera.zoom
        return bool((np.delete(off, shown) <= 0.5).all() and pixels.max() <= GRIP)


def _distance(start: Any, end: Any) -> float:
    """The longer side, screen pixels."""
    return float(np.abs(np.subtract(end, start)).max())


def _points(
    case: Case, point: tuple[float, ...] | None, name: str, colour: str, symbol: str, size: float = 0
) -> LayerData:
    """A layer with one point or none, over the image of the case; a volume's shows in the plane it lies in.

    size: its diameter in pixels; by default what is well seen.
    """
    ndim = len(case.geometry.shape)
    data = np.array([case.geometry.point_to_planes(point)[-ndim:]], float) if point else np.empty((0, ndim))
    usual = max(case.geometry.plane_shape[1:]) / 40
    look = {
        "size": size or usual,
        "symbol": symbol,
        "face_color": "transparent" if symbol == "disc" else colour,
        "border_color": colour,
        "border_width": 0.15 * usual,
        "border_width_is_relative": False,
    }
    return data, {"name": name, **placement(case.geometry), **look}, "points"
