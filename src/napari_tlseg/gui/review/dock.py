"""The third dock: how good the runs are, where they err, and one step to a mask that corrects them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.engine.trainings import Anchored
from napari_tlseg.errors import InputError
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.review.case_table import CaseTable, judged
from napari_tlseg.gui.review.compare_box import CompareBox
from napari_tlseg.gui.review.crop_box import CropBox
from napari_tlseg.gui.review.disagreement_box import DisagreementBox
from napari_tlseg.gui.review.edit_box import EditBox
from napari_tlseg.gui.review.error_panel import UNKNOWN, ErrorPanel
from napari_tlseg.gui.review.explain_box import ExplainBox
from napari_tlseg.gui.review.predictions import Found, Predictions
from napari_tlseg.gui.review.pseudo_box import PseudoBox
from napari_tlseg.gui.review.run_table import MARK, TOO_FEW, RunTable, too_few
from napari_tlseg.gui.runs import Run, runs_of
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.widgets.fields import as_tooltip

if TYPE_CHECKING:
    import napari

NO_FOLDER = "Open a folder of images first, in 'Click targets'."
NO_RUN = "Train a model first, in 'Train': its runs and their errors are looked at here."
FINAL = (
    "Show the scores of the held-out cases, which no training saw. Choose λ and all else by the validation cases, and "
    "look at the held-out ones once, at the end: what is chosen by them flatters itself."
)
HIDDEN = "A held-out case: its errors are shown in the final look. This is what the run found."


class ReviewDock(QWidget):
    """Review errors."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = Session.of(napari_viewer)
        self.runs, self.cases = RunTable(), CaseTable()
        self.final = QCheckBox("Final look: show held-out scores", objectName="final", toolTip=as_tooltip(FINAL))
        self.compare = CompareBox()
        self.disagreement = DisagreementBox(self.session)
        self.explain = ExplainBox(self.session)
        self.panel = ErrorPanel(self.session)
        self.crop = CropBox(self.session)
        self.edit = EditBox(self.session)
        self.pseudo = PseudoBox(self.session)
        self.predictions = Predictions(self.session)
        self._next = QLabel(wordWrap=True, objectName="next")
        self._few = QLabel(f"{MARK} {TOO_FEW}", wordWrap=True, objectName="few")
        self._state = QLabel(wordWrap=True, objectName="state")
        self._body = QWidget()
        self._listed: list[Run] = []
        self._picked = ""
        """The case that was picked here: it is shown where it is worst."""
        self._lay_out()
        self._connect()
        self._list()

    def _lay_out(self) -> None:
        body = QVBoxLayout(self._body)
        body.setContentsMargins(0, 0, 0, 0)
        body.addWidget(self.runs)
        for widget in (self._few, self.final):
            body.addWidget(widget)
        body.addWidget(self.cases, 1)
        for widget in (self.disagreement, self._state, self.panel, self.crop, self.compare, self.edit):
            body.addWidget(widget)
        for widget in (self.explain, self.pseudo):
            body.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(self._next, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self._body, 1)

    def _connect(self) -> None:
        session, painter = self.session, self.session.painter
        for signal in (session.opened, session.runs_changed):
            signal.connect(self._offer)
        session.run_shown.connect(self._list)
        for signal in (session.run_shown, session.case_shown, session.masks_changed, painter.began, painter.ended):
            signal.connect(self._look)
        session.masks_changed.connect(self._list_cases)
        painter.saved.connect(self._look)
        session.case_shown.connect(self._mark_case)
        self.runs.valueChanged.connect(self._pick_run)
        self.cases.valueChanged.connect(self._pick_case)
        self.final.toggled.connect(self._list)
        self.final.toggled.connect(self._look)
        self.compare.valueChanged.connect(self._look)
        self.disagreement.ranked.connect(self._rank)
        self.pseudo.changed.connect(self._list_cases)
        self.predictions.found.connect(self._present)
        self.predictions.waits.connect(self._wait)

    @property
    def run(self) -> Run | None:
        """The one that is picked, as it lies in the folder now."""
        shown = self.session.run
        return None if shown is None else next((run for run in self._listed if run.path == shown.path), None)

    def showEvent(self, event: QShowEvent) -> None:
        """In front: the canvas is this dock's."""
        super().showEvent(event)
        if not event.spontaneous():
            self.session.viewer.dims.events.current_step.connect(self._show_slice)
            self._offer()
            self._look()

    def hideEvent(self, event: QHideEvent) -> None:
        """Behind another tab, or closed: what is on the canvas goes."""
        super().hideEvent(event)
        if not event.spontaneous():
            self._leave()

    @guarded
    def _leave(self) -> None:
        self.predictions.forget()
        self.session.viewer.dims.events.current_step.disconnect(self._show_slice)
        self.panel.clear()
        self._set_place(None, None)
        self.edit.setFound(None)
        self.crop.setFound(None)

    @guarded
    def _offer(self) -> None:
        """List the runs; where none is looked at, the latest is."""
        self._list()
        if self.isVisible() and self.session.run is None and self._listed:
            self.session.show_run(self._listed[0].path)

    @guarded
    def _list(self) -> None:
        folder = self.session.folder
        self._listed = [] if folder is None else runs_of(folder)
        self._next.setText(NO_RUN if folder is not None else NO_FOLDER)
        self._next.setVisible(not self._listed)
        self._body.setVisible(bool(self._listed))
        training = {task.job.out for task in self.session.runner.tasks if isinstance(task.job, Anchored)}
        self.runs.setRuns(self._listed, final=self.final.isChecked(), training=training)
        self.runs.setValue(None if self.run is None else self.run.path)
        self._few.setVisible(too_few(self._listed))
        self.compare.setRuns(self._listed, self.run)
        self._list_cases()

    @guarded
    def _list_cases(self) -> None:
        run, dataset = self.run, self.session.dataset
        names = [case.name for case in dataset or ()]
        final, pseudo = self.final.isChecked(), self.pseudo.answers()
        self.cases.setCases([] if run is None else judged(run, names, final=final, pseudo=pseudo))
        self._mark_case()

    @guarded
    def _rank(self) -> None:
        """The λ of the path were compared in all cases, or in some more."""
        self._list()
        self.cases.sort("disagreement")

    @guarded
    def _mark_case(self) -> None:
        case = self.session.case
        self.cases.setValue(None if case is None else case.name)

    @guarded
    def _pick_run(self, path: Path) -> None:
        if self.session.run is not None and self.session.run.path == path:
            return
        self.session.show_run(path)
        if self.session.run is None:
            raise InputError("the run is no longer there", path, "pick another one")

    @guarded
    def _pick_case(self, name: str) -> None:
        session = self.session
        if session.dataset is not None:
            self._picked = name
            session.show(session.dataset[name])

    @guarded
    def _look(self) -> None:
        """Ask for what is to be seen of the case shown, and hide what was before; nothing while its mask is painted."""
        session, run, case = self.session, self.run, self.session.case
        self._wait("")
        if not self.isVisible() or run is None or case is None or session.dataset is None or session.painter.case:
            self.predictions.forget()
            self._set_place(None, None)
            return
        self._set_place(run, case)
        other = next((each for each in self._listed if each.path == self.compare.value()), None)
        runs = (run,) if other is None else (run, other)
        self.predictions.ask(case, session.dataset.classes, runs, judge=not self._is_hidden(case))

    def _set_place(self, run: Run | None, case: Case | None) -> None:
        """What is looked at, for the boxes that have the worker compute something of it."""
        for box in (self.disagreement, self.explain):
            box.setPlace(run, case)

    @guarded
    def _present(self, found: Found) -> None:
        session = self.session
        self._state.setVisible(False)
        self.panel.present(found, self.compare.way(), HIDDEN if self._is_hidden(found.case) else UNKNOWN)
        self.edit.setFound(found)
        self.crop.setFound(found)
        selection = session.viewer.layers.selection
        selection.active = selection.active or session.image  # after painting there is none
        worst = self.panel.worst_plane()
        if self._picked == found.case.name:
            self._picked = ""
            if worst is not None:
                session.show_plane(worst)
        self.panel.count()

    @guarded
    def _wait(self, sentence: str) -> None:
        """Nothing to be seen yet, and why."""
        self.panel.veil()
        self.edit.setFound(None)
        self.crop.setFound(None)
        self._state.setText(sentence)
        self._state.setVisible(bool(sentence))

    @guarded
    def _show_slice(self) -> None:
        self.panel.count()
        self.edit.show_slice()

    def _is_hidden(self, case: Case) -> bool:
        """A held-out case before the final look: of the run, or of the folder where the run did not see it."""
        folder, run = self.session.folder, self.run
        if self.final.isChecked() or folder is None or run is None:
            return False
        return run.hides(case.name, folder)
