"""A table of which one row is picked, by mouse or keys."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QMouseEvent, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_tlseg.gui.widgets.fields import as_tooltip

KEY = Qt.ItemDataRole.UserRole
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
NAME, WIDTH = 14, 46
"""Letters: of a name so many are seen in any case; so wide is a table where nobody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading, and what it means."""

    title: str
    tip: str = ""
    number: bool = False
    """Numbers are set flush right."""
    spare: bool = False
    """Left out where the table is too narrow; the first such goes first."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What stands in a row; `tips` are of its cells, as far as there are any."""

    key: Hashable
    cells: tuple[str, ...]
    tips: tuple[str, ...] = ()


class Rows(QTableWidget):
    """The first column takes what room the others leave. Emits what the user picks, also what is picked already."""

    valueChanged = Signal(object)

    def __init__(self, name: str, columns: Sequence[Column], least: int, most: int) -> None:
        """least, most: rows that it wants to be high."""
        super().__init__(0, len(columns), objectName=name)
        self._columns, self._least, self._most = columns, least, most
        for place, column in enumerate(columns):
            head = QTableWidgetItem(column.title)
            head.setToolTip(as_tooltip(column.tip))
            head.setTextAlignment(RIGHT if column.number else Qt.AlignmentFlag.AlignLeft)
            self.setHorizontalHeaderItem(place, head)
        self._told = False
        """Whether the row under the mouse was given as it was pressed."""
        self._look()
        self.currentItemChanged.connect(self._tell)
        self.itemClicked.connect(lambda item: None if self._told else self._tell(item))

    def value(self) -> object:
        """The key of the row that is picked, or None."""
        row = self.currentRow()
        return None if row < 0 else self.item(row, 0).data(KEY)

    def setValue(self, key: object) -> None:
        """Mark a row, or none where there is no such; nothing is emitted."""
        keys = [self.item(row, 0).data(KEY) for row in range(self.rowCount())]
        with QSignalBlocker(self):
            self.setCurrentCell(keys.index(key) if key in keys else -1, 0)

    def setRows(self, rows: Sequence[Row]) -> None:
        """What was picked stays picked; nothing is emitted."""
        before = self.value()
        with QSignalBlocker(self):
            self.clearContents()
            self.setRowCount(len(rows))
            for number, row in enumerate(rows):
                for place, cell in enumerate(row.cells):
                    self.setItem(number, place, self._item(row, place, cell))
        self.setValue(before)
        self.updateGeometry()
        self._fit()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._told = False
        super().mousePressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:
        rows = min(max(self.rowCount(), self._least), self._most)
        return QSize(WIDTH * self.fontMetrics().averageCharWidth(), self._height(rows))

    def minimumSizeHint(self) -> QSize:
        return QSize(super().minimumSizeHint().width(), self._height(self._least))

    def _item(self, row: Row, place: int, text: str) -> QTableWidgetItem:
        item = QTableWidgetItem(text)
        item.setData(KEY, row.key)
        item.setToolTip(as_tooltip(row.tips[place]) if place < len(row.tips) else "")
        item.setTextAlignment(RIGHT if self._columns[place].number else Qt.AlignmentFlag.AlignVCenter)
        return item

    def _look(self) -> None:
        head, side = self.horizontalHeader(), self.verticalHeader()
        head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        head.setSectionResizeMode(0, QHeaderView.ResizeMode.Fixed)
        head.setHighlightSections(False)
        side.setVisible(False)
        side.setDefaultSectionSize(round(1.5 * self.fontMetrics().height()))
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)

    def _fit(self) -> None:
        """Names are legible in any case: for that the spare columns go, and where it is not enough, one scrolls."""
        room, legible = self.viewport().width(), self.fontMetrics().averageCharWidth() * NAME
        legible = min(self._needs(0), legible)
        spare = [place for place, column in enumerate(self._columns) if column.spare]
        others = {place for place in range(1, self.columnCount()) if place in spare or not self.isColumnHidden(place)}
        for place in spare:
            if scarce := legible + sum(map(self._needs, others)) > room:
                others.remove(place)
            self.setColumnHidden(place, scarce)
        self.setColumnWidth(0, max(room - sum(map(self._needs, others)), legible))

    def _needs(self, place: int) -> int:
        """Pixels of a column."""
        return int(max(self.sizeHintForColumn(place), self.horizontalHeader().sectionSizeHint(place)))

    def _height(self, rows: int) -> int:
        head = self.horizontalHeader().sizeHint().height()
        return int(head + rows * self.verticalHeader().defaultSectionSize() + 2 * self.frameWidth())

    def _tell(self, item: QTableWidgetItem | None) -> None:
        self._told = True
        if item is not None:
            self.valueChanged.emit(item.data(KEY))
