"""The choice of a second run to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.narrow import NarrowChoice

Way = Literal["side by side", "difference"]
WAYS: dict[Way, str] = {"side by side": "Side by side", "difference": "Where they differ"}
TIPS = {
    "compare": "A second run, B, to compare with the one that is picked above, A",
    "way": "Both over the image, in views that move together; or one map of what only one of them found",
}


class CompareBox(QWidget):
    """Which other run, and in which way."""

    valueChanged = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._run, self._way = (NarrowChoice(name, tip, letters=6) for name, tip in TIPS.items())
        for way, words in WAYS.items():
            self._way.addItem(words, way)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(2, 1)
        grid.addWidget(QLabel("Compare with"), 0, 0)
        grid.addWidget(self._run, 0, 1)
        grid.addWidget(self._way, 0, 2)
        self.setRuns((), None)
        self._run.currentIndexChanged.connect(self._change)
        self._way.currentIndexChanged.connect(self.valueChanged)

    def value(self) -> Path | None:
        """The other run."""
        data = self._run.currentData()
        return None if data is None else Path(data)

    def setValue(self, path: Path | None) -> None:
        self._run.setCurrentIndex(max(self._run.findData(None if path is None else str(path)), 0))

    def way(self) -> Way:
        way: Way = self._way.currentData()
        return way

    def setRuns(self, runs: Sequence[Run], shown: Run | None) -> None:
        """All but the one shown can be compared with; what was picked stays picked, and nothing is emitted."""
        before = self.value()
        with QSignalBlocker(self._run):
            self._run.clear()
            self._run.addItem("none", None)
            for run in runs:
                if shown is None or run.path != shown.path:
                    self._run.addItem(run.name, str(run.path))
            self.setValue(before)
        self._way.setVisible(self.value() is not None)

    def _change(self) -> None:
        self._way.setVisible(self.value() is not None)
        self.valueChanged.emit()
