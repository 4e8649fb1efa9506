"""True and false positives and false negatives over the image, or where two predictions differ: one Labels layer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from napari.layers import Layer
from napari.utils.colormaps import CyclicLabelColormap
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels
from napari_tlseg.data.overlay import TN, Counts, confusion_planes
from napari_tlseg.gui.canvas.layers import LayerData, case_of, labels_layer
from napari_tlseg.gui.canvas.roles import Canvas
from napari_tlseg.gui.review.meaning import CODES, ERRORS, Meaning, Palette, difference

FINE = 512
"""Sides up to so many pixels get outlines of one pixel, larger ones thicker: they are seen smaller."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """What is compared, both (N, Y, X). Of two predictions A and B, A is the prediction here and B the truth."""

    truth: Labels
    prediction: Labels
    painted: frozenset[int] | None
    """Planes that have a truth; None for all."""
    classes: tuple[str, ...]
    """With the background first."""
    case: str
    meaning: Meaning

    def title(self, label: int) -> str:
        what = f" ({self.classes[label]})" if len(self.classes) > 2 else ""
        return f"{self.meaning.title}: {self.case}{what}"


class ErrorOverlay:
    """One layer of a viewer, which shows one class of one case; once the user deletes it, the next case brings it back.

    The look (palette, outlines, which codes are seen) stays from case to case, and a change of it compares nothing
    anew. The colour map is cyclic: of 0 to 3 the same as a direct one, which napari would first compile, for seconds.
    """

    def __init__(self, canvas: Canvas, role: str = "errors") -> None:
        self._canvas, self._role = canvas, role
        self._pair: _Pair | None = None
        self._counts: list[Counts | None] = []
        self._palette: Palette = "classic"
        self._shown = frozenset(CODES)
        self._outline = False
        self._opacity = {False: 0.5, True: 1.0}
        """Of regions, and of their outlines."""
        self._colours: CyclicLabelColormap | None = None
        self._styled: LabelsLayer | None = None

    @property
    def layer(self) -> LabelsLayer | None:
        """None where nothing was shown yet, or the user deleted it."""
        return self._canvas.get(self._role)

    @property
    def meaning(self) -> Meaning:
        return ERRORS if self._pair is None else self._pair.meaning

    def show(
        self,
        truth: Labels,
        prediction: Labels,
        like: Layer | LayerData,
        label: int = 1,
        classes: tuple[str, ...] = (),
        *,
        painted: Collection[int] | None = None,
        meaning: Meaning = ERRORS,
    ) -> None:
        """Compare a prediction with the truth, both (N, Y, X), over the layer of their image.

        classes: names with the background first. painted: the planes that have a truth, by default all.
        """
        planes = None if painted is None else frozenset(painted)
        self._compare(truth, prediction, like, label, painted=planes, classes=classes, meaning=meaning)

    def renew(self, prediction: Labels, label: int, meaning: Meaning) -> None:
        """Another prediction of the same planes: only the data are set, as a slider is faster than a new look."""
        layer = self.layer
        if layer is not None and self._pair is not None:
            self._pair = replace(self._pair, prediction=prediction, meaning=meaning)
            self.set_label(label)

    def disagreement(
        self,
        a: Labels,
        b: Labels,
        like: Layer,
        label: int = 1,
        classes: tuple[str, ...] = (),
        *,
        names: tuple[str, str] = ("A", "B"),
    ) -> None:
        """Where two predictions (N, Y, X) differ: only A, only B, both."""
        self._compare(b, a, like, label, painted=None, classes=classes, meaning=difference(*names))

    def set_label(self, label: int) -> None:
        """Look at another class of the same case."""
        layer, pair = self.layer, self._pair
        if layer is not None and pair is not None:
            layer.data = self._confuse(pair, label).reshape(layer.data.shape)
            layer.editable = False  # new data make it so again
            layer.name = pair.title(label)

    def set_palette(self, palette: Palette) -> None:
        self._palette = palette
        self._recolour()

    def set_shown(self, codes: Collection[int]) -> None:
        """Which of TP, FP and FN are seen."""
        self._shown = frozenset(codes)
        self._recolour()

    def set_outline(self, outline: bool) -> None:
        """The rims of the regions, or all of them; both keep the opacity that the user gave them."""
        layer = self.layer
        if layer is not None:
            self._opacity[self._outline] = layer.opacity
        self._outline = outline
        if layer is not None:
            layer.contour, layer.opacity = self._rim(layer), self._opacity[outline]

    def counts(self, plane: int | None = None) -> Counts | None:
        """Of a plane, or of all planes of the case that have a truth; None where there is none."""
        asked = self._counts if plane is None else self._counts[plane : plane + 1]
        judged = [each for each in asked if each is not None]
        return sum(judged, Counts()) if judged else None

    def clear(self) -> None:
        """Take the layer away, and forget what was compared."""
        self._canvas.remove(self._role)
        self._pair = self._styled = None
        self._counts = []

    def _compare(self, truth: Labels, prediction: Labels, like: Layer | LayerData, label: int, **about: Any) -> None:
        case = case_of(like)
        name = case.name if case is not None else like[1]["name"] if isinstance(like, tuple) else like.name
        pair = _Pair(truth=truth, prediction=prediction, case=name, **about)
        self._pair = pair
        data, kept, kind = labels_layer(self._confuse(pair, label), like, pair.title(label))
        self._colours = self._colour_map()
        look = {"colormap": self._colours, "features": _said(pair.meaning)}
        layer = self._put((data, {**kept, **look}, kind))
        layer.editable = False
        layer.contour = self._rim(layer)
        if layer is not self._styled:
            self._styled = layer
            layer.opacity = self._opacity[self._outline]
            layer.events.colormap.connect(self._keep_colours)

    def _put(self, data: LayerData) -> LabelsLayer:
        """Into the layer that is there: another one takes napari a second."""
        values, about, _ = data
        layer = self.layer
        if layer is None or layer.ndim != values.ndim:
            return self._canvas.put(self._role, data)
        layer.data = values
        for name, value in about.items():
            setattr(layer, name, value)
        return layer

    def _confuse(self, pair: _Pair, label: int) -> NDArray[np.uint8]:
        confusion, self._counts = confusion_planes(pair.truth, pair.prediction, label, pair.painted)
        return confusion

    def _rim(self, layer: LabelsLayer) -> int:
        """Thickness of the outlines, pixels; 0 for whole regions."""
        return max(1, round(max(layer.data.shape[-2:]) / FINE)) if self._outline else 0

    def _recolour(self) -> None:
        self._colours = self._colour_map()
        self._keep_colours()

    def _keep_colours(self, _: Any = None) -> None:
        """Also against napari's button that shuffles them: colours that do not mean what the legend says mislead."""
        layer = self.layer
        if layer is not None and layer.colormap is not self._colours:
            layer.colormap = self._colours

    def _colour_map(self) -> CyclicLabelColormap:
        colours = np.zeros((4, 4), np.float32)
        for code in self._shown:
            colours[code] = *np.array(self.meaning.colours[self._palette][code]) / 255, 1
        return CyclicLabelColormap(colors=colours, background_value=TN)


def _said(meaning: Meaning) -> dict[str, list[Any]]:
    """What napari's status bar says of a pixel."""
    return {"index": list(CODES), "this is": [meaning.hints[code] for code in CODES]}
