"""A small plot with a line of text above it."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_tlseg.gui.widgets.strength import strength_text

MOST, SMOOTH = 400, 120
"""Points of a line, and of a smooth one: a dock is hardly wider in pixels, and each takes its time to draw."""
READABLE = 4
"""Marks that can be labelled; those of a path cannot, and are drawn elsewhere."""


class Plot(QWidget):
    """A plot with a line of text above it, in the colours of the theme. The mouse passes it: no way to get lost.

    Of pyqtgraph's simple parts, as its PlotItem brings a dozen menus along.
    """

    def __init__(self, parent: QWidget, width: float = 1.0) -> None:
        super().__init__(parent)
        self._pg = pg = _pyqtgraph()
        self._width = width
        self._name, self._note, self._canvas = QLabel(), QLabel(), pg.GraphicsView()
        self._view = pg.ViewBox(enableMenu=False, enableMouse=False)
        self._left, self._bottom = (pg.AxisItem(side, linkView=self._view) for side in ("left", "bottom"))
        self._faint, self._line = pg.PlotCurveItem(connect="finite"), pg.PlotCurveItem(connect="finite", antialias=True)
        self._dots, self._best = pg.ScatterPlotItem(size=5), pg.ScatterPlotItem(size=15, symbol="star")
        self._second = pg.PlotCurveItem(connect="finite", antialias=True)
        self._spread = pg.ErrorBarItem(beam=0.0)
        self._bars = pg.BarGraphItem(x=[], height=[], width=0.7)
        self._moves: list[tuple[int, float]] = []
        self._labelled = False
        """The moves are."""
        self._numbered = False
        """The x axis is."""
        self._marks: list[Any] = []
        self._lay_out()
        self._paint()

    def write(self, name: str, note: str) -> None:
        """What is shown, with its unit; and on the right a number to be read."""
        self._name.setText(name)
        self._note.setMinimumWidth(self.fontMetrics().horizontalAdvance("now 0.0000") if note else 0)
        self._note.setText(note)

    def span(self, last: int, labelled: bool) -> None:
        """The steps to show, and whether they are numbered here."""
        self._bottom.setVisible(labelled)
        self._numbered = labelled
        self._fit()
        self._view.setXRange(0, max(1, last), padding=0.02)

    def draw_course(self, steps: Sequence[int], values: Sequence[float], raw: Sequence[float]) -> None:
        """A smooth line, the raw values faintly behind it."""
        every = max(1, len(steps) // MOST)
        xs, low, high = _bands(np.array(steps, float), np.array(raw, float), every)
        band = np.column_stack([low, high]).ravel()
        self._faint.setData(np.repeat(xs, 2), band)
        every = max(1, len(steps) // SMOOTH)
        self._line.setData(np.array(steps[::every], float), np.array(values[::every], float))
        self._reach(*_limits(band))

    def draw_looks(
        self, steps: Sequence[int], values: Sequence[float], *, best: int | None = None, highest: float | None = None
    ) -> None:
        """A point per look, and which is the best; the y axis runs from 0 to the `highest`, else as far as needed."""
        xs, ys = np.array(steps, float), np.array(values, float)
        seen = np.isfinite(ys)
        self._line.setData(xs, ys)
        self._dots.setData(xs[seen], ys[seen])
        self._best.setData(*(([], []) if best is None else (xs[[best]], ys[[best]])))
        self._reach(0.0, highest or _limits(ys)[1])

    def number(self, names: Mapping[int, str]) -> None:
        """What is written below the x axis, and where."""
        self._bottom.setTicks([list(names.items())])
        self._bottom.setStyle(hideOverlappingLabels=self.fontMetrics().height())  # px beyond its ends, for half a label

    def draw_spread(self, xs: Sequence[float], means: Sequence[float], spreads: Sequence[float]) -> None:
        """A bar from one spread below each mean to one above it; none where it is not known."""
        known = np.isfinite(means) & np.isfinite(spreads)
        x, y, half = (np.array(each, float)[known] for each in (xs, means, spreads))
        self._spread.setData(x=x, y=y, height=2 * half)

    def draw_second(self, xs: Sequence[float], values: Sequence[float]) -> None:
        """Another line, dashed."""
        self._second.setData(np.array(xs, float), np.array(values, float))

    def draw_bars(self, values: Sequence[float]) -> None:
        """A bar each, at 1, 2, … on the x axis; the y axis begins at 0."""
        heights = np.array(values, float)
        self._bars.setOpts(x=np.arange(1, len(heights) + 1), height=heights)
        self._reach(0.0, max(heights, default=0.0) or 1.0)

    def mark_moves(self, moves: Sequence[tuple[int, float]], labelled: bool) -> None:
        """A vertical line where λ changed, and on it what it became."""
        if list(moves) != self._moves:
            self._moves, self._labelled = list(moves), labelled
            self._draw_moves()

    def sizeHint(self) -> QSize:
        """No more than can be read; where there is room it grows."""
        return self.minimumSizeHint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._paint()

    def _reach(self, low: float, high: float) -> None:
        """What the y axis shows."""
        self._view.setYRange(low, high, padding=0.06)
        self._left.setTickSpacing(levels=[(step_of(low, high), 0.0)])

    def _lay_out(self) -> None:
        for item in (self._bars, self._faint, self._spread, self._second, self._line, self._dots, self._best):
            self._view.addItem(item, ignoreBounds=True)
        self._grid = grid = self._pg.GraphicsLayout()
        grid.setSpacing(0)
        for item, row, column in ((self._left, 0, 0), (self._view, 0, 1), (self._bottom, 1, 1)):
            grid.addItem(item, row, column)
        self._canvas.setCentralItem(grid)
        self._canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._canvas.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._name.setMinimumWidth(1)  # it may be cut off where the dock is narrow, the number not
        head = QHBoxLayout()
        head.addWidget(self._name, 1)
        self._note.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        head.addWidget(self._note)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addLayout(head)
        rows.addWidget(self._canvas, 1)

    def _fit(self) -> None:
        """As high as can be read, in the font of the theme."""
        line = self.fontMetrics().height()
        self._grid.setContentsMargins(0, line // 2, 0, 0 if self._numbered else line // 2)  # half of the end's numbers
        self._bottom.setHeight(line * 5 // 4)
        self._canvas.setMinimumHeight((6 if self._numbered else 5) * line)

    def _paint(self) -> None:
        """Colours and fonts of the theme."""
        ground, ink, metrics = (*self._colours(), self.fontMetrics())
        self._canvas.setBackground(ground)
        for axis in (self._left, self._bottom):
            axis.setPen(_faded(ink, 0.5))
            axis.setTextPen(ink)
            axis.setTickFont(self.font())
            axis.setStyle(maxTickLevel=0)
        self._bottom.setTickDensity(0.4)
        self._left.setWidth(metrics.horizontalAdvance("0.0000"))
        self._fit()
        self._faint.setPen(_faded(ink, 0.25))
        self._line.setPen(self._pg.mkPen(ink, width=self._width))
        self._second.setPen(self._pg.mkPen(ink, width=self._width, style=Qt.PenStyle.DashLine))
        self._bars.setOpts(brush=_faded(ink, 0.5), pen=_faded(ink, 0.5))
        self._spread.setOpts(pen=_faded(ink, 0.5))
        for points in (self._dots, self._best):
            points.setBrush(ink)
            points.setPen(ground)
        self._draw_moves()

    def _draw_moves(self) -> None:
        for mark in self._marks:
            self._view.removeItem(mark)
        pen = self._pg.mkPen(_faded(self._colours()[1], 0.6), style=Qt.PenStyle.DashLine)
        self._marks = [self._pg.InfiniteLine(step, pen=pen) for step, _ in self._moves]
        for number, (mark, (_, strength)) in enumerate(zip(self._marks, self._moves, strict=True)):
            self._view.addItem(mark, ignoreBounds=True)
            if self._labelled and len(self._moves) <= READABLE:
                self._label(mark, f"λ = {strength_text(strength)}", 0.9 - 0.18 * (number % 3))

    def _label(self, line: Any, text: str, height: float) -> None:
        """At a share of the plot's height, on the right of the line, or on the left where there is no room."""
        ground, ink = self._colours()
        options = {"position": height, "color": ink, "fill": _faded(ground, 0.8)}
        self._pg.InfLineLabel(line, text, **options).setFont(self.font())

    def _colours(self) -> tuple[QColor, QColor]:
        """Of the background and of what is drawn on it."""
        return self.palette().color(self.backgroundRole()), self.palette().color(self.foregroundRole())


Values = NDArray[np.float64]


def _bands(xs: Values, ys: Values, every: int) -> tuple[Values, Values, Values]:
    """Lowest and highest of every so many values, with the first x of each: 10,000 steps are no more than pixels."""
    whole = len(ys) // every * every
    blocks = ys[:whole].reshape(-1, every)
    return xs[:whole:every], np.fmin.reduce(blocks, axis=1), np.fmax.reduce(blocks, axis=1)


def _limits(values: Values) -> tuple[float, float]:
    """Of the y axis: all values, but for the rare ones that would flatten the rest."""
    known = values[np.isfinite(values)]
    low, high = map(float, np.percentile(known, (0.5, 99.5))) if known.size else (0.0, 1.0)
    return low, high if high > low else low + 1


def step_of(low: float, high: float) -> float:
    """Between the numbers on a short axis: 1, 2 or 5 times a power of ten, so that there are three, or two at least.

    >>> step_of(0, 1), step_of(0, 4.5), step_of(0, 0.9), step_of(0.3, 1.4)
    (0.5, 2.0, 0.5, 0.5)
    """
    power = math.floor(math.log10(high - low))
    steps = [float(f"{digit}e{power - lower}") for lower in (0, 1) for digit in (5, 2, 1)]
    numbers = {step: math.floor(high / step) - math.ceil(low / step) + 1 for step in steps}
    three = [step for step, count in numbers.items() if count == 3]
    return next(iter([*three, *(step for step, count in numbers.items() if count >= 2), steps[-1]]))


def _faded(colour: QColor, share: float) -> QColor:
    faded = QColor(colour)
    faded.setAlphaF(share)
    return faded


def _pyqtgraph() -> Any:
    """Imported when needed, as that takes a fifth of a second; kept from putting itself before napari's error hooks."""
    hooks = sys.excepthook, threading.excepthook
    import pyqtgraph

    sys.excepthook, threading.excepthook = hooks
    return pyqtgraph
