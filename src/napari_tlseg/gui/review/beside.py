"""Two runs side by side: a second view, of a copy of the image, right of the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Layer

from napari_tlseg.gui.canvas.layers import case_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components.grid import GridCanvas

    from napari_tlseg.gui.canvas.roles import Canvas

COPY = "image B"
SHARED = ("contrast_limits", "gamma", "colormap")
"""What the image and its copy have in common, whichever of them the user changes."""
KEPT = (*SHARED, "scale", "translate", "units", "rgb", "metadata", "interpolation2d", "opacity", "blending")
SETTINGS = ("shape", "stride", "spacing", "enabled")


class Beside:
    """napari's grid, of two views with one camera and one slice: all layers are left, the copy and what belongs to it
    right. The grid is as it was before, once it is closed, or the user deletes the copy.
    """

    def __init__(self, canvas: Canvas, roles: tuple[str, ...]) -> None:
        """roles: of our layers that belong over the copy."""
        self._canvas, self._roles = canvas, (COPY, *roles)
        self._before: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        return self._before is not None

    @property
    def copy(self) -> Layer | None:
        return self._canvas.get(COPY)

    def open(self, image: Image) -> Layer:
        """Show a copy of the image, which shares its pixels, in the right view."""
        viewer = self._canvas.viewer
        about = image.as_layer_data_tuple()[1]
        case = case_of(image)
        name = f"{image.name if case is None else case.name} (B)"
        copy = self._canvas.put(COPY, (image.data, {"name": name} | {k: about[k] for k in KEPT if k in about}, "image"))
        copy.visible = True
        viewer.layers.link_layers([image, copy], SHARED)
        if self._before is None:
            self._before = {name: getattr(self._grid, name) for name in SETTINGS}
            for event in self._events(viewer):
                event.connect(self._arrange, position="last")  # napari itself hears of it first
            self._arrange()
            viewer.reset_view()
        else:
            self._arrange()
        return copy

    def close(self) -> None:
        if self._before is None:
            return
        before, self._before = self._before, None
        viewer = self._canvas.viewer
        for event in self._events(viewer):
            event.disconnect(self._arrange)
        for name, value in before.items():
            setattr(self._grid, name, value)
        for role in self._roles:
            self._canvas.remove(role)
        viewer.reset_view()

    @property
    def _grid(self) -> GridCanvas:
        viewer = self._canvas.viewer
        return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid  # napari before 0.9

    def _arrange(self, _: Any = None) -> None:
        """Ours of the right view on top of all; the grid fills its views from the bottom, so many layers each."""
        layers = self._canvas.viewer.layers
        right = [layer for role in self._roles if (layer := self._canvas.get(role)) is not None]
        if self.copy is None:
            self.close()
            return
        for place, layer in enumerate(right, start=len(layers) - len(right)):
            if layers[place] is not layer:
                layers.move(layers.index(layer), len(layers))
        left = len(layers) - len(right)
        self._grid.shape = (1, 2)
        self._grid.stride = left if hasattr(self._canvas.viewer, "canvas") else -left
        self._grid.enabled = True

    @staticmethod
    def _events(viewer: Viewer) -> tuple[Any, ...]:
        return viewer.layers.events.inserted, viewer.layers.events.removed
