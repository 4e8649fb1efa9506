"""Where in the image a run's answer comes from: a map over the slice shown, and what becomes of it without."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.data.overlay import AGAINST, FOR
from napari_tlseg.engine.jobs import Explain
from napari_tlseg.engine.messages import Failed
from napari_tlseg.events import Attributed, Event, Finished
from napari_tlseg.gui.canvas.layers import map_layer, plane_of
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.progress import Progress
from napari_tlseg.gui.review.legend import DASH
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.rows import Column, Row, Rows

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session

ROLE = "explanation"
ASK = (
    "A map of which pixels of the slice shown the run's answer comes from (integrated gradients, 50 steps from black): "
    "magenta speaks for it, cyan against it. And a table of what becomes of the answer where pixels are taken away. "
    "It says what the network used, not whether that was right."
)
CHANGED = (
    "What the run marked takes the values of its neighbours; or a patch turns black where most of the answer comes "
    "from; or those pixels do that it comes from most. The less is left then, the more the answer hangs on them."
)
STRONGEST = 99.5
"""Percentile of the values that has the full colour."""
COLUMNS = (
    Column(title="What is changed", tip=CHANGED),
    Column(title="sure", tip="How sure the run then is of the pixels that it marked, 0 to 1", number=True),
    Column(title="Dice", tip="Of what it then marks with what it marked before", number=True),
)


def _diverging() -> Colormap:
    """Clear at 0, in the middle, and the stronger the less clear."""
    sign = np.linspace(-1, 1, 257)
    colours = np.where(sign[:, None] > 0, FOR, AGAINST) / 255
    return Colormap(np.column_stack([colours, np.abs(sign)]), name="for and against")


COLOURS = _diverging()


class ExplainBox(QWidget):
    """Asked for by a button, as it takes seconds; it goes when another case or run is looked at."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._run: Run | None = None
        self._case: Case | None = None
        self._asked: Task | None = None
        self._found: dict[str, Attributed] = {}
        """By the answer, of the slice that was asked about last."""
        self._ask = QPushButton("What did it look at?", objectName="explain", toolTip=as_tooltip(ASK))
        self._answer = QComboBox(objectName="answer", toolTip="Which class the map and the table are of")
        self.progress = Progress()
        self._words = QLabel(wordWrap=True, objectName="explained")
        self._changes = Rows("changes", COLUMNS, least=3, most=5)
        self._lay_out()
        self._ask.clicked.connect(guarded(self._submit))
        self._answer.activated.connect(guarded(self._present))
        self._refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self._ask)
        row.addWidget(self._answer, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        for widget in (self.progress, self._words, self._changes):
            layout.addWidget(widget)

    def setPlace(self, run: Run | None, case: Case | None) -> None:
        """What is looked at; None where nothing can be asked."""
        other = run is None or self._run is None or (run.path, case) != (self._run.path, self._case)
        self._run, self._case = run, case
        if other:
            self._drop()
        self._refresh()

    def _drop(self) -> None:
        if self._asked is not None:
            self._asked.stop()
            self._asked = None
        self._found.clear()
        self._answer.clear()
        self._session.canvas.remove(ROLE)

    def _submit(self, _: bool = False) -> None:
        run, case, session = self._run, self._case, self._session
        if run is None or case is None or session.folder is None:
            return
        self._drop()
        job = Explain(data=session.folder, case=case.name, model=run.path, plane=session.plane())
        self._asked = task = session.runner.submit(job)
        task.heard.connect(guarded(partial(self._hear, task)))
        task.ended.connect(guarded(partial(self._end, task)))
        self.progress.follow(task)
        self._refresh()

    def _hear(self, task: Task, event: Event) -> None:
        if task is self._asked and isinstance(event, Attributed):
            self._found[event.answer] = event
            self._answer.addItem(event.answer)
            if len(self._found) == 1:
                self._present()

    def _end(self, task: Task, _: Finished | Failed) -> None:
        if task is self._asked:
            self._asked = None
            self._refresh()

    def _present(self, _: int = 0) -> None:
        found, image = self._found[self._answer.currentText()], self._session.image
        rows = [_row(number, change) for number, change in enumerate(found.changes)]
        self._changes.setRows(rows)
        self._refresh()
        if image is None:
            return
        like = plane_of(image, found.plane)
        data, about, kind = map_layer(found.values[None], like, f"speaks for {found.answer}: {found.case}")
        most = max(float(np.percentile(np.abs(found.values), STRONGEST)), 1e-12)
        look = {"colormap": COLOURS, "contrast_limits": (-most, most), "blending": "translucent"}
        selection = self._session.viewer.layers.selection
        active = selection.active
        self._session.canvas.put(ROLE, (data, about | look, kind)).visible = True
        selection.active = active

    def _refresh(self) -> None:
        self.setVisible(self._run is not None)
        self._ask.setEnabled(self._asked is None and self._case is not None)
        found = self._found.get(self._answer.currentText())
        self._answer.setVisible(len(self._found) > 1)
        for widget in (self._words, self._changes):
            widget.setVisible(found is not None)
        if found is not None and self._case is not None:
            self._words.setText(_sentence(found, self._case))


def _sentence(found: Attributed, case: Case) -> str:
    slices = len(case.geometry.shape) == 3
    where = f"In slice {case.geometry.stored_plane(found.plane)} of {case.name}" if slices else f"In {case.name}"
    if not found.found:
        return f"{where} it marks no {found.answer}: magenta is what would speak for it, cyan against it."
    sure = f"it is {found.changes[0]['before']:.2f} sure of what it marks"
    return f"{where} magenta speaks for {found.answer}, cyan against it; {sure}."


def _row(number: int, change: Mapping[str, Any]) -> Row:
    dice = DASH if change["Dice"] is None else f"{change['Dice']:.2f}"
    name = str(change["change"])
    return Row(key=number, cells=(name, f"{change['after']:.2f}", dice), tips=(name,))
