"""Correcting a prediction, to learn from it."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.data.split import read_split
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.review.predictions import Found
from napari_tlseg.gui.session import Session

STAYS = {
    "validation": "It is a validation case and stays one: runs are judged by its mask, they do not learn from it.",
    "held-out": "It is held out and stays so: its mask is for the final look, nothing learns from it.",
}
LEARN = "Train can go on from here: in 'Train', tick 'Go on from the run shown'."


class EditBox(QWidget):
    """The prediction becomes the mask of its case in one step; only a mask that is there already is asked for."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._found: Found | None = None
        self._through: Case | None = None
        """What was corrected last, as long as it is looked at."""
        self._fresh = False
        """A prediction is about to be painted in."""
        self._edit = QPushButton("Edit as mask", objectName="edit")
        self._edit.setToolTip("Take the prediction for the mask of this case, to correct it with napari's brush")
        self._words = QLabel(wordWrap=True, objectName="edit_words")
        self._question = QWidget()
        self._replace = QPushButton("Replace it", objectName="replace")
        self._replace.setToolTip("The prediction takes the place of the mask; that cannot be undone")
        self._correct = QPushButton("Correct it", objectName="correct", toolTip="Paint in the mask that is there")
        self._cancel = QPushButton("Cancel", objectName="cancel")
        self._right = QCheckBox("This slice is right", objectName="right")
        self._right.setToolTip("Only slices that are ticked count: they are learned from, or judged by")
        self._done = QPushButton("Done: learn from it", objectName="done")
        self._done.setToolTip("The mask is saved as you go; leave painting, and see the errors that are left")
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout(self._question)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self._replace, self._correct, self._cancel):
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self._edit, self._words, self._question, self._right, self._done):
            layout.addWidget(widget)

    def _connect(self) -> None:
        painter = self.session.painter
        painter.planes_changed.connect(self._count_planes)
        changes = painter.began, painter.ended, painter.saved, painter.planes_changed, self.session.masks_changed
        for signal in changes:
            signal.connect(self.refresh)
        self.session.case_shown.connect(self._forget)
        self._edit.clicked.connect(self._ask)
        self._replace.clicked.connect(self._begin)
        self._correct.clicked.connect(self._go_on)
        self._cancel.clicked.connect(self.refresh)
        self._right.clicked.connect(self._confirm)
        self._done.clicked.connect(self._finish)

    def setFound(self, found: Found | None) -> None:
        """What would be corrected; of two runs the first."""
        self._found = found
        self.refresh()

    @guarded
    def refresh(self) -> None:
        """Painting, or what can be painted, or what came of it."""
        painted = self.session.painter.case
        volume = painted is not None and len(painted.geometry.shape) == 3
        self._edit.setVisible(painted is None)
        self._edit.setEnabled(self._found is not None)
        self._question.setVisible(False)
        self._right.setVisible(volume)
        self._done.setVisible(painted is not None)
        if painted is not None:
            self._done.setText("Done" if self._stays(painted) else "Done: learn from it")
        self._say(self._while(painted, volume) if painted is not None else self._after())
        self.show_slice()

    def show_slice(self) -> None:
        """Whether the slice that is seen counts."""
        self._right.setChecked(self.session.plane() in self.session.painter.planes)

    @guarded
    def _ask(self) -> None:
        case = self._case()
        if case is None or case.mask is None:
            self._begin()
            return
        self._say(f"{case.name} has a mask already. Replace it by the prediction, or correct the mask that is there?")
        self._edit.setVisible(False)
        self._question.setVisible(True)

    @guarded
    def _begin(self) -> None:
        """From the prediction."""
        if self._found is not None:
            self._fresh = True
            self.session.painter.begin(self._found.masks[0])

    @guarded
    def _count_planes(self) -> None:
        """Of a volume that was predicted only the slices count that the user looked at: at first the one shown."""
        painter = self.session.painter
        if self._fresh and painter.case is not None:
            self._fresh = False
            if len(painter.case.geometry.shape) == 3:
                with QSignalBlocker(painter):
                    for plane in (here := self.session.plane(), *sorted(painter.planes - {here})):
                        painter.set_painted(plane, plane == here)
                painter.planes_changed.emit()

    @guarded
    def _go_on(self) -> None:
        self.session.painter.begin()

    @guarded
    def _confirm(self) -> None:
        self.session.painter.set_painted(self.session.plane(), self._right.isChecked())

    @guarded
    def _finish(self) -> None:
        self._through = self.session.painter.case
        self.session.painter.leave()

    @guarded
    def _forget(self) -> None:
        """Another case is shown."""
        case = self.session.case
        if self._through is not None and (case is None or case.name != self._through.name):
            self._through = None
        self.setFound(None)

    def _case(self) -> Case | None:
        """The one whose prediction it is, as it was read last."""
        dataset, found = self.session.dataset, self._found
        return None if dataset is None or found is None else dataset[found.case.name]

    def _while(self, case: Case, volume: bool) -> str:
        slices = "Only the slices that you tick count: look at each before. " if volume else ""
        return f"The mask of {case.name} is saved as you go. {slices}{self._stays(case)}"

    def _after(self) -> str:
        dataset, through = self.session.dataset, self._through
        if dataset is None or through is None:
            return ""
        if dataset[through.name].mask is None:
            return f"{through.name} has no mask yet: nothing was painted."
        return f"{through.name} has a mask now. {self._stays(through) or LEARN}"

    def _stays(self, case: Case) -> str:
        folder = self.session.folder
        return "" if folder is None else STAYS.get(read_split(folder).get(case.name, ""), "")

    def _say(self, words: str) -> None:
        self._words.setText(words)
        self._words.setVisible(bool(words))
