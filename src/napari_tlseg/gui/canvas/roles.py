"""Our layers in a viewer: told from the user's own, which are never changed or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_tlseg.gui.canvas.layers import LayerData

if TYPE_CHECKING:
    from napari import Viewer

GROUND = "image"
"""The role of the layer that the others lie on."""


class Canvas:
    """Layers of ours by their role, such as `image`; one that the user deleted is no longer there."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._about: dict[str, dict[str, Any]] = {}
        """What each was last told to look like."""
        viewer.layers.events.removing.connect(self._draw_once_more)

    @property
    def camera(self) -> Any:
        """Of the viewer: napari 0.9 keeps it elsewhere than before."""
        return getattr(self.viewer, "scene", self.viewer).camera

    def get(self, role: str) -> Layer | None:
        layer = self._layers.get(role)
        return layer if layer is not None and layer in self.viewer.layers else None

    def owns(self, layer: Layer) -> bool:
        return any(layer is own for own in self._layers.values())

    def put(self, role: str, data: LayerData) -> Layer:
        """Show this in the layer of that role, in its place; a new layer comes on top, a new image beneath the others.

        An image or points take the new data over, which is much faster than to make another layer; what is not new
        stays as the user has it now, such as the contrast.
        """
        old, before = self.get(role), self._about.get(role, {})
        self._about[role] = data[1]
        if old is not None and _alike(old, data):
            _update(old, data, before)
            return old
        selection = self.viewer.layers.selection
        active, place = selection.active, self._place(role)
        if old is not None:
            self.viewer.layers.remove(old)
        new = self._layers[role] = Layer.create(*data)
        self.viewer.layers.insert(place, new)
        selection.active = new if active is old else active
        return new

    def remove(self, role: str) -> None:
        layer = self.get(role)
        if layer is not None:
            self.viewer.layers.remove(layer)
        self._layers.pop(role, None)

    def clear(self) -> None:
        """The image last: points that outlive it crash the canvas when they are drawn (napari 0.9 on Mesa)."""
        for role in reversed(list(self._layers)):
            self.remove(role)

    def _place(self, role: str) -> int:
        layers = self.viewer.layers
        if (old := self.get(role)) is not None:
            return int(layers.index(old))
        ours = [index for index, layer in enumerate(layers) if self.owns(layer)]
        return min(ours) if role == GROUND and ours else len(layers)

    def _draw_once_more(self, event: Any) -> None:
        """Before a layer of ours goes: where it was hidden, or changed, and not drawn since, the canvas would crash at
        its next resize (napari 0.9 and vispy on Mesa, at the vertex buffers of points and of the brush).
        """
        layer = self.viewer.layers[event.index]
        window = getattr(self.viewer, "window", None)  # a viewer's model alone has none
        if window is not None and self.owns(layer):
            layer.mode, layer.visible = "pan_zoom", True
            window._qt_viewer.canvas.native.repaint()


def _alike(layer: Layer, data: LayerData) -> bool:
    about, kind = data[1:]
    if kind not in ("points", "image") or layer._type_string != kind or layer.ndim != _ndim(data):
        return False
    return kind == "points" or bool(layer.rgb) == bool(about.get("rgb"))


def _ndim(data: LayerData) -> int:
    values, about, kind = data
    return int(values.shape[1] if kind == "points" else values.ndim - bool(about.get("rgb")))


def _update(layer: Layer, data: LayerData, before: dict[str, Any]) -> None:
    """Each thing that is set is drawn anew, some 10 ms: only what is not as it was told before."""
    values, about, kind = data
    new = values is not layer.data and (kind == "image" or not np.array_equal(values, layer.data))
    if new:
        layer.data = values
    for name, value in about.items():
        grown = new and name == "size"  # a point that is added gets the size of the layer's first
        if name != "rgb" and (grown or name not in before or not _same(before[name], value)):
            setattr(layer, name, value)
    if new and kind == "image" and not layer.rgb and "contrast_limits" not in about:
        layer.reset_contrast_limits()


def _same(one: Any, other: Any) -> bool:
    """Arrays by their values; of a colour map, which cannot be compared, only itself."""
    return one is other or bool(np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other)
