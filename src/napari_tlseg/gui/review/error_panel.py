"""What is on the canvas of a case under review, and the legend of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Layer
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case, Labels
from napari_tlseg.data.overlay import Counts
from napari_tlseg.errors import InputError
from napari_tlseg.gui.canvas.layers import labels_layer
from napari_tlseg.gui.review.beside import COPY, Beside
from napari_tlseg.gui.review.compare_box import Way
from napari_tlseg.gui.review.legend import DASH, Legend
from napari_tlseg.gui.review.overlay import ErrorOverlay
from napari_tlseg.gui.review.predictions import Found

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session

OVERLAYS, PLAIN = ("errors", "errors B"), ("found", "found B")
"""Roles of our layers, of A and of B: over a truth, and where there is none."""
UNKNOWN = "There is no mask of this case: nothing to compare the prediction with."


class ErrorPanel(QWidget):
    """Shows what was found; it decides nothing."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._canvas = session.canvas
        self.legend = Legend()
        self._note = QLabel(wordWrap=True, objectName="note")
        self.overlays = tuple(ErrorOverlay(session.canvas, role) for role in OVERLAYS)
        self.beside = Beside(session.canvas, (OVERLAYS[1], PLAIN[1]))
        self._found: Found | None = None
        self._names: tuple[str, ...] = ()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.legend)
        layout.addWidget(self._note)
        self._connect()
        self.clear()

    def _connect(self) -> None:
        for overlay in self.overlays:
            self.legend.shownChanged.connect(overlay.set_shown)
            self.legend.paletteChanged.connect(overlay.set_palette)
            self.legend.outlineChanged.connect(overlay.set_outline)
        self.legend.labelChanged.connect(self._set_label)

    def present(self, found: Found, way: Way, unknown: str = UNKNOWN) -> None:
        """Put the errors of one run or two over the image shown, or where there is no truth what they found.

        unknown: why there is none.
        """
        image = self._session.image
        if image is None:
            raise InputError(f"the image of {found.case.name} is not in the viewer", remedy="pick the case again")
        self._found = found
        self._names = tuple(run.name for run in found.runs)
        label = self.legend.label() if self.legend.label() < len(found.classes) else 1
        two = len(found.runs) == 2
        if two and way == "difference":
            self._differ(found, image, label)
        else:
            self._draw(0, found, image, label)
        if two and way == "side by side":
            self._draw(1, found, self.beside.open(image), label)
            self._name_views()
        else:
            self._close_second()
        judged = self.overlays[0].layer is not None
        self.legend.setVisible(judged)
        self.legend.setClasses(found.classes, label)
        self.legend.setMeaning(self.overlays[0].meaning)
        self._note.setText(" ".join(filter(None, ("" if judged else unknown, self._about_views()))))
        self._note.setVisible(bool(self._note.text()))
        self.count()

    def veil(self) -> None:
        """Hide what belongs to another case or run, quickly, until the next comes; the views stay."""
        self._found = None
        for role in (*OVERLAYS, *PLAIN, COPY):
            layer = self._canvas.get(role)
            if layer is not None and self._fits(layer):
                layer.visible = False
            else:
                self._canvas.remove(role)
        self._hide_words()

    def clear(self) -> None:
        """Take everything of ours off the canvas."""
        self._found = None
        self.beside.close()
        for role, overlay in zip(PLAIN, self.overlays, strict=True):
            self._canvas.remove(role)
            overlay.clear()
        self._hide_words()

    def worst_plane(self) -> int | None:
        """The plane with the most errors, of equals the one with the most target; None where nothing is judged."""
        if self._found is None:
            return None
        counts = {plane: self.overlays[0].counts(plane) for plane in range(len(self._found.masks[0]))}
        judged = {plane: each for plane, each in counts.items() if each is not None}
        return max(judged, key=lambda plane: _badness(judged[plane]), default=None)

    def count(self) -> None:
        """Of the slice that is seen, and of the case."""
        found = self._found
        if found is None:
            return
        plane, volume = self._session.plane(), len(found.case.geometry.shape) == 3
        here, case = self.overlays[0].counts(plane), self.overlays[0].counts()
        self.legend.setCounts(here, case, "voxels" if volume else "pixels", slices=volume)
        if found.truth is not None:
            self._note.setText(self._about_views())

    def _about_views(self) -> str:
        """Which run is A, which B; of two views, what the legend, which is A's, does not say of B."""
        if len(self._names) < 2 or self._found is None:
            return ""
        a, b = self._names
        if not self.beside.is_open:
            return f"A is {a}, B is {b}."
        views = f"Left: A, {a}. Right: B, {b}."
        if self._found.truth is None:
            return views
        counts, volume = self.overlays[1].counts, len(self._found.case.geometry.shape) == 3
        here = f"{_dice(counts(self._session.plane()))} in this slice, " if volume else ""
        return (
            f"{views} The counts are of A; Dice of B: {here}{_dice(counts())} in the {'case' if volume else 'image'}."
        )

    def _draw(self, which: int, found: Found, image: Layer, label: int) -> None:
        """One run over its view: errors, or the prediction alone."""
        overlay, plain, mask = self.overlays[which], PLAIN[which], found.masks[which]
        if found.truth is None:
            overlay.clear()
            self._plain(plain, mask, found.case, image)
            return
        self._canvas.remove(plain)
        overlay.show(found.truth, mask, image, label, found.classes, painted=found.case.painted)
        _reveal(overlay.layer)

    def _differ(self, found: Found, image: Image, label: int) -> None:
        a, b = found.masks
        self._canvas.remove(PLAIN[0])
        self.overlays[0].disagreement(a, b, image, label, found.classes, names=(self._names[0], self._names[1]))
        _reveal(self.overlays[0].layer)

    def _plain(self, role: str, mask: Labels, case: Case, image: Layer) -> None:
        layer = self._canvas.put(role, labels_layer(mask, image, f"prediction: {case.name}"))
        layer.opacity = 0.5
        layer.editable = False
        _reveal(layer)

    def _close_second(self) -> None:
        self.beside.close()
        self.overlays[1].clear()
        self._canvas.remove(PLAIN[1])

    def _name_views(self) -> None:
        """In the list of layers; napari 0.9 may crash where it writes names on the canvas, once such a layer goes."""
        if self.beside.is_open:
            for letter, name, roles in zip("AB", self._names, zip(OVERLAYS, PLAIN, strict=True), strict=True):
                for layer in filter(None, map(self._canvas.get, roles)):
                    layer.name = f"{letter}: {name}"

    def _set_label(self, label: int) -> None:
        for overlay in self.overlays:
            overlay.set_label(label)
        self._name_views()
        self.count()

    def _fits(self, layer: Layer) -> bool:
        image = self._session.image
        return image is not None and layer.extent.world.tolist() == image.extent.world.tolist()

    def _hide_words(self) -> None:
        self.legend.setVisible(False)
        self._note.setVisible(False)


def _reveal(layer: Layer | None) -> None:
    if layer is not None:
        layer.visible = True


def _badness(counts: Counts) -> tuple[int, int]:
    return counts.fp + counts.fn, counts.fn + counts.tp


def _dice(counts: Counts | None) -> str:
    return DASH if counts is None or counts.dice is None else f"{counts.dice:.3f}"
