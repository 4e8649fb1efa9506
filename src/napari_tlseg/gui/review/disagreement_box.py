"""Where the λ of a path disagree: a map over the case shown, and which mask to draw next."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import AVAILABLE_COLORMAPS, Colormap
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.data.disagreement import Disagreements, next_mask
from napari_tlseg.engine.messages import Failed
from napari_tlseg.events import Finished
from napari_tlseg.gui.canvas.layers import map_layer
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.progress import Progress
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.studies.jobs import Disagree

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session

ROLE = "disagreement"
MOST = 50
"""Per cent of the pairs of λ: about as much as two answers can make of many models, and the brightest of the map."""
SHOW = (
    "A map over the image: of all pairs of λ of the path, how many per cent see a pixel differently. Clear is none, "
    "violet a few, yellow half of them. Where they disagree, the masks that you drew say little so far."
)
RANK = (
    "Compare the λ of the path in every case, with a mask or without, and put the cases on top in which they disagree "
    "most: a mask of these is likely to teach most. It may be stopped, and goes on from there."
)


def _see_through() -> Colormap:
    """Magma, clear at 0: evenly graded to the eye, in print too, and without red and green."""
    colours = np.array(AVAILABLE_COLORMAPS["magma"].colors, copy=True)
    colours[:, 3] = np.minimum(1, np.linspace(0, 4, len(colours)))
    return Colormap(colours, name="disagreement")


COLOURS = _see_through()


class DisagreementBox(QWidget):
    """In sight where the run that is looked at holds a path. What is asked for is computed once, by the worker."""

    ranked = Signal()
    """More cases were compared."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._run: Run | None = None
        self._case: Case | None = None
        self._asked: Task | None = None
        """That computes the map of the case shown."""
        self._ranking: Task | None = None
        """That compares all cases."""
        self._show = QCheckBox("Show where λ disagree", objectName="disagreement", toolTip=as_tooltip(SHOW))
        self._rank = QPushButton("Next mask to draw", objectName="rank", toolTip=as_tooltip(RANK))
        self.progress = Progress()
        self._words = QLabel(wordWrap=True, objectName="disagreement_words")
        row = QHBoxLayout()
        row.addWidget(self._show, 1)
        row.addWidget(self._rank)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        for widget in (self.progress, self._words):
            layout.addWidget(widget)
        self._show.toggled.connect(guarded(self._look))
        self._rank.clicked.connect(guarded(self._compare_all))
        session.runner.ended.connect(guarded(self._refresh))
        session.masks_changed.connect(guarded(self._refresh))
        self._refresh()

    def setPlace(self, run: Run | None, case: Case | None) -> None:
        """What is looked at; None hides the map."""
        other = run is None or self._run is None or (run.path, case) != (self._run.path, self._case)
        self._run, self._case = run, case
        if other:
            self._drop()
            self._look()
        self._refresh()

    def _look(self, *_: object) -> None:
        """Show the map where it is wanted, from its file or else from the worker."""
        run, case, folder = self._run, self._case, self._session.folder
        if run is None or case is None or folder is None or not run.stages or not self._show.isChecked():
            self._drop()
            return
        kept = Disagreements(run.path)
        if kept.map_of(case).exists():
            self._session.reader.run(partial(kept.read_map, case), partial(self._present, run, case))
        elif self._asked is None:
            job = Disagree(data=folder, model=run.path, cases=(case.name,))
            self._asked = self._session.runner.submit(job, ended=partial(self._computed, case))
        self._refresh()

    def _drop(self) -> None:
        self._session.canvas.remove(ROLE)
        if self._asked is not None:
            self._asked.stop()
            self._asked = None

    @guarded
    def _computed(self, case: Case, result: Finished | Failed) -> None:
        """A map that could not be made is not asked for again by itself: the user was told why."""
        if case is self._case and self._asked is not None:
            self._asked = None
            if isinstance(result, Finished) and result.reason == "done":
                self._look()

    def _present(self, run: Run, case: Case, percent: NDArray[np.uint8]) -> None:
        image = self._session.image
        if run is not self._run or case is not self._case or image is None or not self._show.isChecked():
            return
        data, about, kind = map_layer(percent, image, f"λ disagree, % of pairs: {case.name}")
        look = {"colormap": COLOURS, "contrast_limits": (0, MOST), "blending": "translucent"}
        selection = self._session.viewer.layers.selection
        active = selection.active
        self._session.canvas.put(ROLE, (data, about | look, kind)).visible = True
        selection.active = active
        self._refresh()

    def _compare_all(self) -> None:
        run, folder = self._run, self._session.folder
        if run is not None and folder is not None:
            self._ranking = self._session.runner.submit(Disagree(data=folder, model=run.path), ended=self._ranked)
            self.progress.follow(self._ranking)
            self._refresh()

    @guarded
    def _ranked(self, result: Finished | Failed) -> None:
        self._ranking = None
        if isinstance(result, Finished):
            self.ranked.emit()
        self._look()

    def _refresh(self, *_: object) -> None:
        run = self._run
        self.setVisible(run is not None and bool(run.stages))
        self._rank.setEnabled(self._ranking is None)
        self._words.setText("" if run is None or not run.stages else self._said(run))
        self._words.setVisible(bool(self._words.text()))

    def _said(self, run: Run) -> str:
        case, dataset, words = self._case, self._session.dataset, []
        found = Disagreements(run.path).read()
        if self._asked is not None and case is not None:
            wait = "A training runs: the λ are compared after it" if self._session.training else "Comparing the λ"
            words.append(f"{wait}, in {case.name} …")
        elif case is not None and self._show.isChecked() and case.name in found:
            value = found[case.name]
            much = "find nothing" if value is None else f"disagree about {value:.0%} of what they find"
            words.append(f"In {case.name} the λ {much}.")
        if dataset is not None and len(found) > 1:
            name = next_mask(dataset, found)
            words.append(
                f"The next mask to draw: {name}." if name else "No mask that would be learned from is missing."
            )
        return " ".join(words)
