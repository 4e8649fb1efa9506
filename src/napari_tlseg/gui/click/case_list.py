"""The cases of the open folder in a list, with what is known of each."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.gui.click.clicking import Clicking
from napari_tlseg.gui.notices import guarded

CLICKED, NO_TARGET, OPEN, UNREADABLE = "●", "∅", "○", "✕"
"""Before a case's name: clicked, looked at without a target, to be clicked, not to be read."""
MASK, UNSURE = "▣", "?"
"""Behind it: it has a mask, the proposed centre is unsure."""
SIGNS = (
    f"{CLICKED} clicked   {NO_TARGET} no target visible   {OPEN} to be clicked   "
    f"{MASK} has a mask   {UNSURE} the proposed centre is unsure"
)


class CaseList(QListWidget):
    """Emits nothing: a case that is picked is shown."""

    def __init__(self, clicking: Clicking) -> None:
        super().__init__(toolTip=SIGNS)
        self._clicking, self._session = clicking, clicking.session
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys are for the canvas
        self.setUniformItemSizes(True)  # else each change measures all of a thousand
        self.setSpacing(1)
        self.itemClicked.connect(guarded(self._choose))

    def fill(self, dataset: Dataset) -> None:
        self.clear()
        self.addItems([case.name for case in dataset])

    def mark(self, dataset: Dataset) -> None:
        """The signs of all."""
        for row, case in enumerate(dataset):
            self._write(row, case)

    def show_case(self, case: Case) -> None:
        """The one that is on the canvas now."""
        row = self._session.place(case)
        self.setCurrentRow(row)
        self._write(row, case)

    def _write(self, row: int, case: Case) -> None:
        item, text = self.item(row), self._line(case)
        if item is not None and item.text() != text:
            item.setText(text)

    def _line(self, case: Case) -> str:
        clicks, session = self._session.clicks, self._session
        point = None if clicks is None else clicks[case]
        sign = OPEN if point is None else CLICKED if point else NO_TARGET
        if case.name in session.images.unreadable:
            sign = UNREADABLE
        guess = self._clicking.proposals.guess(case)
        unsure = UNSURE if sign == OPEN and guess is not None and guess.unsure else ""
        return "  ".join(filter(None, (f"{sign} {case.name}", MASK if case.mask else "", unsure)))

    def _choose(self, item: QListWidgetItem) -> None:
        if self._session.dataset is not None:
            self._clicking.show(self._session.dataset.cases[self.row(item)])
