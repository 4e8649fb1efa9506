"""The legend of the error overlay: what its colours mean, which are seen, and how many pixels lie behind them."""

from __future__ import annotations

from collections.abc import Collection

from qtpy.QtCore import QRect, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_tlseg.data.overlay import FN, FP, RGB, TP, Counts
from napari_tlseg.gui.review.meaning import CODES, ERRORS, Meaning

DASH = "–"
PALETTE_NAMES = {"classic": "Classic colours", "colour-blind": "Colour-blind safe"}
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class Legend(QWidget):
    """Emits what the user chose, and shows what it is told; it knows no layer."""

    shownChanged = Signal(object)
    """frozenset of TP, FP, FN: the codes that are to be seen."""
    paletteChanged = Signal(str)
    outlineChanged = Signal(bool)
    labelChanged = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._meaning = ERRORS
        self._classes = QComboBox(toolTip="The class that is looked at; of several, each is judged by itself")
        self._class_row = QWidget()
        self._boxes = {code: QCheckBox(checked=True) for code in CODES}
        self._table = _Table(self._boxes)
        self._note = QLabel(wordWrap=True)
        self._palette = QComboBox(toolTip="The colours of the overlay")
        for name, words in PALETTE_NAMES.items():
            self._palette.addItem(words, name)
        self._outline = QCheckBox("Outlines", toolTip="Only the rims of the regions, to see the image within")
        self._lay_out()
        self._connect()
        self.setMeaning(ERRORS)
        self.setClasses(())
        self.setCounts(None, None, "pixels", slices=False)

    def shown(self) -> frozenset[int]:
        return frozenset(code for code, box in self._boxes.items() if box.isChecked())

    def paletteName(self) -> str:
        return str(self._palette.currentData())

    def outline(self) -> bool:
        return bool(self._outline.isChecked())

    def label(self) -> int:
        """The number of the class that is looked at."""
        return int(self._classes.currentData() or 1)

    def setClasses(self, classes: Collection[str], label: int = 1) -> None:
        """Names with the background first; there is a choice where there are several besides."""
        with QSignalBlocker(self._classes):
            self._classes.clear()
            for number, name in enumerate(classes):
                if number:
                    self._classes.addItem(name, number)
            self._classes.setCurrentIndex(self._classes.findData(label))
        self._class_row.setVisible(self._classes.count() > 1)

    def setMeaning(self, meaning: Meaning) -> None:
        """Errors, or how two predictions differ."""
        self._meaning = meaning
        for code, box in self._boxes.items():
            box.setText(meaning.names[code])
            box.setToolTip(meaning.hints[code])
        self._table.explain(meaning)
        self._draw_swatches()

    def setCounts(
        self, slice_counts: Counts | None, case_counts: Counts | None, unit: str, *, slices: bool = True
    ) -> None:
        """What is in the slice seen, and in the case; None where there is no truth.

        unit: of what is counted, pixels or voxels. slices: False for a photograph, which has but one.
        """
        self._table.fill(slice_counts, case_counts, unit, slices)
        judged = slice_counts if slices else case_counts
        where = " in this slice" if case_counts is not None else ""
        self._note.setText(f"Not painted{where}: errors unknown" if judged is None else "")

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        classes = QHBoxLayout(self._class_row)
        classes.setContentsMargins(0, 0, 0, 0)
        classes.addWidget(QLabel("Class"))
        classes.addWidget(self._classes, 1)
        look = QHBoxLayout()
        look.addWidget(self._palette, 1)
        look.addWidget(self._outline)
        layout.addWidget(self._class_row)
        layout.addWidget(self._table)
        layout.addWidget(self._note)
        layout.addLayout(look)

    def _connect(self) -> None:
        for box in self._boxes.values():
            box.toggled.connect(lambda: self.shownChanged.emit(self.shown()))
        for choice in (self._palette.currentIndexChanged, self._outline.toggled):
            choice.connect(self._draw_swatches)
        self._palette.currentIndexChanged.connect(lambda: self.paletteChanged.emit(self.paletteName()))
        self._outline.toggled.connect(self.outlineChanged)
        self._classes.currentIndexChanged.connect(lambda: self.labelChanged.emit(self.label()))

    def _draw_swatches(self) -> None:
        colours = self._meaning.colours[self.paletteName()]
        side = round(0.8 * self.fontMetrics().height())
        for code, box in self._boxes.items():
            box.setIconSize(QSize(side, side))
            box.setIcon(_swatch(colours[code], side, self.devicePixelRatioF(), hollow=self.outline()))


class _Table(QWidget):
    """A row per code and one for Dice; a column for the slice seen and one for the case."""

    def __init__(self, boxes: dict[int, QCheckBox]) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(0, 1)
        self._unit, self._dice = QLabel(), QLabel("Dice")
        for row, head in enumerate((self._unit, *boxes.values(), self._dice)):
            grid.addWidget(head, row, 0)
        self._slice, self._case = ([QLabel() for _ in range(len(boxes) + 2)] for _ in range(2))
        for column, cells in enumerate((self._slice, self._case), start=1):
            grid.setColumnMinimumWidth(column, self.fontMetrics().horizontalAdvance("0,000,000"))
            for row, cell in enumerate(cells):
                grid.addWidget(cell, row, column, RIGHT)

    def explain(self, meaning: Meaning) -> None:
        self._dice.setToolTip(meaning.dice)

    def fill(self, slice_counts: Counts | None, case_counts: Counts | None, unit: str, slices: bool) -> None:
        self._unit.setText(unit)
        columns = (("this slice", self._slice, slice_counts), ("case" if slices else "image", self._case, case_counts))
        for title, cells, counts in columns:
            for cell, words in zip(cells, (title, *_words(counts)), strict=True):
                cell.setText(words)
        for cell in self._slice:
            cell.setVisible(slices)


def _words(counts: Counts | None) -> list[str]:
    """In the order of the rows: TP, FP, FN, Dice."""
    if counts is None:
        return [DASH] * (len(CODES) + 1)
    number = {TP: counts.tp, FP: counts.fp, FN: counts.fn}
    return [*(f"{number[code]:,}" for code in CODES), DASH if counts.dice is None else f"{counts.dice:.3f}"]


def _swatch(colour: RGB, side: int, ratio: float, *, hollow: bool) -> QIcon:
    """A square of the colour with a darker rim, so that it is seen on white too; or a frame of it."""
    pixmap = QPixmap(QSize(side, side) * ratio)
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    square, rim = QRect(0, 0, side - 1, side - 1), side // 4
    with QPainter(pixmap) as painter:
        painter.fillRect(square, QColor(*colour))
        if hollow:
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Clear)
            painter.fillRect(square.adjusted(rim, rim, -rim, -rim), Qt.GlobalColor.transparent)
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
        painter.setPen(QColor(*colour).darker(150))
        painter.drawRect(square)
    return QIcon(pixmap)
