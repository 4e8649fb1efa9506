"""Masks painted in a Labels layer of the case shown, saved as one goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_tlseg.data.case import Case, Labels
from napari_tlseg.gui.background import Background
from napari_tlseg.gui.canvas.layers import LayerData, labels_layer
from napari_tlseg.gui.canvas.mask_file import MaskFile
from napari_tlseg.gui.notices import complain, explained, guarded

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session

PAUSE = 400
"""Milliseconds after the last stroke: then the mask is saved."""
ROLE = "mask"
OPACITY = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """A mask from the disk, and what is shown to be painted in."""

    file: MaskFile
    shown: LayerData
    saved: Labels
    painted: frozenset[int]


class Painter(QObject):
    """The editable mask of one case at a time. What is painted is on the disk a moment after each stroke.

    A mask that could not be written is tried again with the next stroke, also where another case is shown by then.
    """

    began = Signal(object)
    """Case: there is a layer to paint its mask in, a moment after it was asked for."""
    ended = Signal()
    """The layer is no longer there to paint in."""
    saved = Signal(object)
    """Case: its mask is on the disk as it is on the canvas."""
    planes_changed = Signal()
    """Which planes of a volume count as fully painted."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._writer = Background(self, "write masks")
        self.case: Case | None = None
        self.planes: frozenset[int] = frozenset()
        """Of a volume, those that count as fully painted: they are learned from, also where they are empty."""
        self._unticked: frozenset[int] = frozenset()
        """Those that the user says are not, though there is paint in them."""
        self._layer: LabelsLayer | None = None
        self._file: MaskFile | None = None
        self._given: tuple[Labels, frozenset[int]] | None = None
        """Labels (N, Y, X) and planes as they were given to the writing thread last."""
        self._unwritten: dict[str, MaskFile] = {}
        """By case, those whose last write failed."""
        self._pause = QTimer(self, singleShot=True, interval=PAUSE)
        self._pause.timeout.connect(guarded(self.save))
        session.viewer.layers.events.removed.connect(guarded(self._miss))

    def begin(self, planes: Labels | None = None) -> None:
        """Let the user paint the mask of the case shown: from what it is, or from labels (N, Y, X) to be corrected."""
        case, image, dataset = self._session.case, self._session.image, self._session.dataset
        if case is None or image is None or dataset is None:
            return
        self.leave()
        file, like = self._unwritten.get(case.name) or MaskFile(case, dataset), image.as_layer_data_tuple()

        def read() -> _Read:
            saved, painted = file.read()
            shown = labels_layer(saved if planes is None else planes, like, f"mask: {case.name}")
            return _Read(file=file, shown=shown, saved=saved, painted=painted)

        self._writer.run(read, self._begin)

    def leave(self) -> None:
        """Save what is not saved, and take the layer away, as another case comes."""
        if self._layer is None:
            return
        self.save()
        self._let_go()
        self._session.canvas.remove(ROLE)
        self.ended.emit()

    def set_painted(self, plane: int, painted: bool) -> None:
        """Whether a plane of the volume counts as fully painted; the last one stays, or all of them would count."""
        if painted == (plane in self.planes):
            return
        if not painted and self.planes == {plane}:
            complain(
                "The only painted slice cannot be unticked, as all slices would count then: tick another one first"
            )
        else:
            self.planes ^= {plane}
            self._unticked = self._unticked - {plane} if painted else self._unticked | {plane}
            self._pause.start()
        self.planes_changed.emit()

    def save(self) -> None:
        """Write what was painted since it was written last, in the background."""
        self._pause.stop()
        for other in list(self._unwritten.values()):
            if other is not self._file:
                self._write(other, {}, None)
        layer, file = self._layer, self._file
        if layer is None or file is None or self._given is None:
            return
        labels, planes = self._given
        changed = {
            place: plane.astype(np.uint8)
            for place, plane in enumerate(np.asarray(layer.data).reshape(labels.shape))
            if not np.array_equal(plane, labels[place])
        }
        if file.volume:
            self._tick(changed)
        if changed or self.planes != planes or file.case.name in self._unwritten:
            for place, plane in changed.items():
                labels[place] = plane
            self._given = labels, self.planes
            self._write(file, changed, self.planes)

    def settle(self, then: Callable[[], object]) -> None:
        """Save what is not saved, and call `then` once all is on the disk, or was said not to be."""
        self.save()
        self._writer.run(lambda: None, lambda _: then())

    def close(self) -> None:
        """Save what is not saved; the writing thread ends when all is on the disk."""
        self.save()
        self._let_go()
        self._writer.close(drop=False)

    def _begin(self, read: _Read) -> None:
        case = self._session.case
        if case is None or case.name != read.file.case.name:  # the user has gone on meanwhile
            return
        self.leave()
        layer = self._session.canvas.put(ROLE, read.shown)
        layer.opacity = OPACITY
        self.case, self._layer, self._file = case, layer, read.file
        self.planes, self._given = read.painted, (read.saved, read.painted)
        for event in _events(layer):
            event.connect(self._touched)
        self._session.viewer.layers.selection.active = layer
        layer.mode = "paint"
        self.began.emit(case)
        self.save()
        self.planes_changed.emit()

    def _let_go(self) -> None:
        if self._layer is not None:
            for event in _events(self._layer):
                event.disconnect(self._touched)
        self.case = self._layer = self._file = self._given = None
        self.planes = self._unticked = frozenset()

    def _tick(self, changed: dict[int, Any]) -> None:
        """A plane that is painted in counts as painted."""
        planes = self.planes | (changed.keys() - self._unticked)
        if planes != self.planes:
            self.planes = planes
            self.planes_changed.emit()

    def _write(self, file: MaskFile, changed: dict[int, Any], painted: frozenset[int] | None) -> None:
        def written(news: bool) -> None:
            self._unwritten.pop(file.case.name, None)
            self.saved.emit(file.case)
            if news:
                self._session.reload()

        def failed(error: Exception) -> None:
            self._unwritten[file.case.name] = file
            complain(f"The mask of {file.case.name} is not saved: {explained(error)}")

        self._writer.run(lambda: file.write(changed, painted), written, failed)

    def _touched(self, _: Any) -> None:
        """Something was painted, undone, or only another plane is shown: what it was is found out in a moment."""
        self._pause.start()

    def _miss(self, event: Any) -> None:
        """The user deleted the layer: what was painted is kept."""
        if event.value is self._layer:
            self.leave()


def _events(layer: LabelsLayer) -> tuple[Any, ...]:
    return layer.events.paint, layer.events.labels_update, layer.events.set_data, layer.events.data
