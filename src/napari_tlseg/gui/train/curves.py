"""The curves of a training: loss, validation score, and how far the encoder went."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QHideEvent, QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_tlseg.errors import InputError
from napari_tlseg.events import Event
from napari_tlseg.gui.train.history import SCORES, History, read_events
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.strength import strength_text

MOMENT = 125
"""Milliseconds between two redraws."""
MOST, SMOOTH = 400, 120
"""Points of a line, and of a smooth one: a dock is hardly wider in pixels, and each takes its time to draw."""


class Curves(QWidget):
    """Three small plots over the training step, drawn a few times a second while something is new."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = History()
        self._heading = QElidingLabel()
        self._loss, self._score, self._drift = self._plots = _Plot(self, width=1.5), _Plot(self), _Plot(self)
        self._drift.setToolTip(as_tooltip("How far the encoder's weights are from the source's, relative to these."))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._heading)
        for plot in self._plots:
            layout.addWidget(plot, 1)
        layout.addWidget(QLabel("Training step"), alignment=Qt.AlignmentFlag.AlignHCenter)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._timer = QTimer(self, singleShot=True, interval=MOMENT)
        self._timer.timeout.connect(self._draw)
        self.clear()

    def begin(self, title: str, total: int) -> None:
        """Empty plots for a training of `total` steps."""
        self._reset(title, History(total=total))

    def clear(self) -> None:
        self._reset("", History())

    def hear(self, event: Event) -> None:
        if self._history.hear(event) and self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def load(self, folder: Path) -> None:
        """The curves of a run that is over; InputError where there are none."""
        events = list(read_events(folder))
        if not events:
            raise InputError("holds no training", folder / "events.jsonl", "choose another run")
        history = History(total=max(event.step for event in events))
        for event in events:
            history.hear(event)
        self._reset(folder.name, history)

    def sizeHint(self) -> QSize:
        """No more than can be read; it takes what is left of a dock."""
        return self.minimumSizeHint()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._draw()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()

    def _reset(self, title: str, history: History) -> None:
        self._timer.stop()
        self._history = history
        self._heading.setText(title)
        self._heading.setVisible(bool(title))
        self._draw()

    def _draw(self) -> None:
        history = self._history
        without_source = bool(history.looks) and not np.isfinite(history.drifts).any()
        self._drift.setVisible(not without_source)
        for plot in self._plots:
            plot.span(history.last, labelled=plot is (self._score if without_source else self._drift))
            plot.mark_moves(history.moves, labelled=plot is self._loss)
        self._loss.draw_course(history.steps, history.smooth, history.losses)
        highest = 1.0 if history.score == "dice" else None
        self._score.draw_looks(history.looks, history.scores, best=history.best, highest=highest)
        self._drift.draw_looks(history.looks, history.drifts)
        self._loss.write("Training loss", f"now {history.smooth[-1]:.3g}" if history.smooth else "")
        self._score.write(*_score_title(history))
        self._drift.write("Encoder moved, %", f"now {history.drifts[-1]:.2g}" if history.drifts else "")


def _score_title(history: History) -> tuple[str, str]:
    name = SCORES.get(history.score, "Validation score")
    if history.looks and not history.score:
        return name, "too few cases to judge"
    return name, "" if history.best is None else f"best {history.scores[history.best]:.3g}"


class _Plot(QWidget):
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
        self._moves: list[tuple[int, float]] = []
        self._labelled = False
        self._marks: list[Any] = []
        self._lay_out()
        self._paint()

    def write(self, name: str, note: str) -> None:
        """What is shown, with its unit; and on the right a number to be read."""
        self._name.setText(name)
        self._note.setText(note)

    def span(self, last: int, labelled: bool) -> None:
        """The steps to show, and whether they are numbered here."""
        self._bottom.setVisible(labelled)
        self._canvas.setMinimumHeight((8 if labelled else 6) * self.fontMetrics().height())
        self._view.setXRange(0, max(1, last), padding=0.02)

    def draw_course(self, steps: Sequence[int], values: Sequence[float], raw: Sequence[float]) -> None:
        """A smooth line, the raw values faintly behind it."""
        every = max(1, len(steps) // MOST)
        xs, low, high = _bands(np.array(steps, float), np.array(raw, float), every)
        band = np.column_stack([low, high]).ravel()
        self._faint.setData(np.repeat(xs, 2), band)
        every = max(1, len(steps) // SMOOTH)
        self._line.setData(np.array(steps[::every], float), np.array(values[::every], float))
        self._view.setYRange(*_limits(band), padding=0.06)

    def draw_looks(
        self, steps: Sequence[int], values: Sequence[float], *, best: int | None = None, highest: float | None = None
    ) -> None:
        """A point per look, and which is the best; the y axis runs from 0 to the `highest`, else as far as needed."""
        xs, ys = np.array(steps, float), np.array(values, float)
        seen = np.isfinite(ys)
        self._line.setData(xs, ys)
        self._dots.setData(xs[seen], ys[seen])
        self._best.setData(*(([], []) if best is None else (xs[[best]], ys[[best]])))
        self._view.setYRange(0, highest or _limits(ys)[1], padding=0.06)

    def mark_moves(self, moves: Sequence[tuple[int, float]], labelled: bool) -> None:
        """A vertical line where λ changed, and on it what it became."""
        if list(moves) != self._moves:
            self._moves, self._labelled = list(moves), labelled
            self._draw_moves()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._paint()

    def _lay_out(self) -> None:
        for item in (self._faint, self._line, self._dots, self._best):
            self._view.addItem(item, ignoreBounds=True)
        grid = self._pg.GraphicsLayout()
        edge = self.fontMetrics().height() // 2  # for half of the first and last numbers
        grid.setContentsMargins(0, edge, 0, edge)
        grid.setSpacing(0)
        for item, row, column in ((self._left, 0, 0), (self._view, 0, 1), (self._bottom, 1, 1)):
            grid.addItem(item, row, column)
        self._canvas.setCentralItem(grid)
        self._canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._canvas.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._name.setMinimumWidth(1)  # it may be cut off where the dock is narrow, the number not
        head = QHBoxLayout()
        head.addWidget(self._name, 1)
        head.addWidget(self._note)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addLayout(head)
        rows.addWidget(self._canvas, 1)

    def _paint(self) -> None:
        """Colours and fonts of the theme."""
        ground, ink, metrics = (*self._colours(), self.fontMetrics())
        self._canvas.setBackground(ground)
        for axis in (self._left, self._bottom):
            axis.setPen(_faded(ink, 0.5))
            axis.setTextPen(ink)
            axis.setTickFont(self.font())
            axis.setStyle(maxTickLevel=0)
            axis.setTickDensity(0.5)
        self._left.setWidth(metrics.horizontalAdvance("0.0000"))
        self._bottom.setHeight(metrics.height() * 3 // 2)
        self._faint.setPen(_faded(ink, 0.25))
        self._line.setPen(self._pg.mkPen(ink, width=self._width))
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
            if self._labelled:
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
