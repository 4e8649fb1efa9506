"""Which case is shown, and one step to the next, for docks that list no cases."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget
from superqt import QElidingLabel

from napari_tlseg.gui.session import Session


class CaseRow(QWidget):
    """The name between two arrows."""

    stepped = Signal(int)
    """−1 for the case before, 1 for the next."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._name = QElidingLabel(objectName="case")
        self._name.setElideMode(Qt.TextElideMode.ElideMiddle)
        self._name.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._back = self._arrow(Qt.ArrowType.LeftArrow, -1, "Go back to the case before")
        self._next = self._arrow(Qt.ArrowType.RightArrow, 1, "Go on to the next case")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._back)
        row.addWidget(self._name, 1)
        row.addWidget(self._next)
        session.opened.connect(self._show)
        session.case_shown.connect(self._show)
        session.reader.waiting.connect(self._wait)
        self._show()

    def _arrow(self, arrow: Qt.ArrowType, by: int, tip: str) -> QToolButton:
        button = QToolButton(arrowType=arrow, toolTip=tip)
        button.clicked.connect(lambda: self.stepped.emit(by))
        return button

    def _wait(self, words: str) -> None:
        """What is being read."""
        self._show()
        if words:
            self._name.setText(words)

    def _show(self, *_: object) -> None:
        case, dataset = self._session.case, self._session.dataset
        self.setEnabled(case is not None)
        if case is None or dataset is None:
            self._name.setText("No case is shown")
        else:
            self._name.setText(f"{case.name} ({self._session.place(case) + 1} of {len(dataset)})")
