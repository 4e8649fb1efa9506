"""The curves of a training: loss, validation score, and how far the encoder went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from qtpy.QtCore import QSize, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_tlseg.errors import InputError
from napari_tlseg.events import Event
from napari_tlseg.gui.train.history import SCORES, History, read_events
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.plot import Plot

MOMENT = 125
"""Milliseconds between two redraws."""
MOVED = "How far the encoder's weights are from the source's, relative to these."
LAYERS = (
    "The same of each layer of the encoder. The fine ones on the left see edges and texture, the deep ones on the "
    "right shapes and where they lie. A low bar keeps there what the source knew, a high one has learned anew from "
    "your masks; a larger λ makes all of them lower."
)


class Curves(QWidget):
    """Three small plots over the training step, beside the last one the layers of the encoder.

    They are drawn a few times a second while something is new.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = History()
        self._heading = QElidingLabel()
        self._loss, self._score, self._drift = self._plots = Plot(self, width=1.5), Plot(self), Plot(self)
        self._layers = Plot(self)
        self._drift.setToolTip(as_tooltip(MOVED))
        self._layers.setToolTip(as_tooltip(LAYERS))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        head = QHBoxLayout()
        head.addWidget(self._heading, 1)
        head.addWidget(QLabel("by training step"))
        layout.addLayout(head)
        moved = QHBoxLayout()
        moved.addWidget(self._drift, 3)
        moved.addWidget(self._layers, 2)
        for plot in (self._loss, self._score):
            layout.addWidget(plot, 1)
        layout.addLayout(moved, 1)
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
        self._score.draw_looks(history.looks, history.scores, best=history.kept, highest=highest)
        self._drift.draw_looks(history.looks, history.drifts)
        self._loss.write("Training loss", f"now {history.smooth[-1]:.3g}" if history.smooth else "")
        self._score.write(*_score_title(history))
        self._draw_layers(history.stages)
        self._drift.write("Encoder moved, %", f"now {history.drifts[-1]:.2g}" if history.drifts else "")

    def _draw_layers(self, stages: Sequence[float]) -> None:
        """A bar per stage of the encoder, at the last look."""
        self._layers.setVisible(bool(stages))
        self._layers.span(len(stages) + 1, labelled=True)
        self._layers.number({1: "fine", len(stages): "deep"})
        self._layers.draw_bars(stages)
        self._layers.write("By layer, %", "")


def _score_title(history: History) -> tuple[str, str]:
    name = SCORES.get(history.score, "Validation score")
    if history.looks and not history.score:
        return name, "too few cases to judge"
    return name, "" if history.kept is None else f"kept {history.scores[history.kept]:.3g}"
