"""What transfer is worth on the images at hand: λ recommended, and what more masks bring; each a study that goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.gui.runs import StudyRun
from napari_tlseg.gui.train.path_plot import NAMES, ROOM
from napari_tlseg.gui.train.source_box import Source
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.form import Form
from napari_tlseg.gui.widgets.plot import Plot
from napari_tlseg.gui.widgets.strength import LAST, strength_text, tick_of
from napari_tlseg.studies.jobs import Crossval, Efficiency

GOES_ON = "It trains many times, in the background: stop it when you like, and it goes on from there."
TIPS = {Crossval: f"{Crossval.__doc__} {GOES_ON}", Efficiency: f"{Efficiency.__doc__} {GOES_ON}"}
LABELS = {"warm": "Warm start, share of the steps"}
Row = Mapping[str, Any]


class StudyBox(QWidget):
    """Asks for a study, and shows what the latest of each kind found with the source that is picked."""

    crossval = Signal()
    efficiency = Signal()
    used = Signal(object)
    """The λ that was recommended, or None for no source."""

    def __init__(self) -> None:
        super().__init__()
        self.form = Form(Crossval, ("folds", "warm"), labels=LABELS)
        self._recommend = QPushButton("Recommend λ", objectName="crossval", toolTip=as_tooltip(TIPS[Crossval]))
        self._count = QPushButton("Label efficiency", objectName="efficiency", toolTip=as_tooltip(TIPS[Efficiency]))
        self._use = QPushButton(objectName="use", toolTip=as_tooltip("Set the slider to the λ that is recommended"))
        self.curve, self.masks = Plot(self), Plot(self)
        self.words = {name: QLabel(wordWrap=True, objectName=f"{name}_words") for name in ("crossval", "efficiency")}
        self._found: float | None = None
        self._lay_out()
        self._recommend.clicked.connect(self.crossval)
        self._count.clicked.connect(self.efficiency)
        self._use.clicked.connect(lambda: self.used.emit(self._found))
        self.setStudies((), "none")

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self._recommend, self._count):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form)
        layout.addLayout(buttons)
        for widget in (self.curve, self.words["crossval"], self._use, self.masks, self.words["efficiency"]):
            layout.addWidget(widget)

    def setPossible(self, *, crossval: bool, efficiency: bool) -> None:
        """What can be begun now."""
        self._recommend.setEnabled(crossval)
        self._count.setEnabled(efficiency)

    def setStudies(self, studies: Sequence[StudyRun], source: Source) -> None:
        """The latest first; those of another source are not shown."""
        self._show_curve(_latest(studies, "crossval", source))
        self._show_masks(_latest(studies, "efficiency", source))

    def _show_curve(self, study: StudyRun | None) -> None:
        """Dice ± SE against λ, and as a dashed line without the source (Sagie et al., fig. 1)."""
        summary = {} if study is None else study.summary
        arms = [arm for arm in summary.get("arms", ()) if arm["lambda"] is not None]
        arms.sort(key=lambda arm: float(arm["lambda"]))
        scratch = next((arm["dice_mean"] for arm in summary.get("arms", ()) if arm["lambda"] is None), None)
        name = summary.get("recommended")
        self._found = None if name in (None, "no source") else float(str(name).replace("∞", "inf"))
        ticks = [tick_of(float(arm["lambda"])) for arm in arms]
        best = ticks.index(tick_of(self._found)) if self._found is not None else None
        self.curve.setVisible(bool(arms))
        self.curve.span(LAST + ROOM, labelled=True)
        self.curve.number(NAMES)
        self.curve.draw_spread(ticks, *_means(arms))
        self.curve.draw_second(*(([], []) if scratch is None else ([0, LAST], [scratch, scratch])))
        self.curve.draw_looks(ticks, _means(arms)[0], best=best, highest=1.0)
        self.curve.write("Dice ± SE against λ, – – no source", "" if best is None else f"λ = {name}")
        self._use.setText("Train without a source" if self._found is None else f"Use λ = {strength_text(self._found)}")
        self._use.setVisible(name is not None)
        self._say("crossval", study)

    def _show_masks(self, study: StudyRun | None) -> None:
        """Dice ± SE against the number of masks, evenly spaced; dashed without the source (Hu et al., fig. 2)."""
        rows = sorted(() if study is None else study.summary.get("efficiency", ()), key=lambda row: row["masks"])
        sizes = sorted({row["masks"] for row in rows})
        scratch = [row for row in rows if row["source"] == "none"]
        own = [row for row in rows if row["source"] != "none"] or scratch
        places = {size: place for place, size in enumerate(sizes, 1)}
        at = [places[row["masks"]] for row in own]
        self.masks.setVisible(bool(rows))
        self.masks.span(len(sizes) + 1, labelled=True)
        self.masks.number({place: str(size) for size, place in places.items()})
        self.masks.draw_spread(at, *_means(own))
        self.masks.draw_second([places[row["masks"]] for row in scratch], _means(scratch)[0])
        self.masks.draw_looks(at, _means(own)[0], highest=1.0)
        self.masks.write("Dice ± SE against masks, – – no source", "")
        self._say("efficiency", study)

    def _say(self, name: str, study: StudyRun | None) -> None:
        words = "" if study is None else said(study)
        self.words[name].setText(words)
        self.words[name].setVisible(bool(words))


def said(study: StudyRun) -> str:
    """What a study found, or how far it is.

    >>> from pathlib import Path
    >>> said(StudyRun(Path("study"), {}, {"trials": 3, "of": 10}))
    'study: 3 of 10 trainings are through; the same button goes on.'
    """
    summary = study.summary
    if summary.get("trials") == summary.get("of"):
        return str(summary.get("words", ""))
    far = f"{summary['trials']} of {summary['of']} trainings are through"
    return f"{study.path.name}: {far}; the same button goes on."


def _latest(studies: Sequence[StudyRun], kind: str, source: Source) -> StudyRun | None:
    """With this source, and something found."""
    mine = (study for study in studies if study.record["job"] == kind and study.summary)
    return next((study for study in mine if _source_of(study) == str(source)), None)


def _source_of(study: StudyRun) -> str:
    sources = [each for each in study.record.get("sources", (study.record["source"],)) if each != "none"]
    return str(next(iter(sources), "none"))


def _means(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Means, and their standard errors; NaN where there is none."""
    means, errors = ([math.nan if row[key] is None else row[key] for row in rows] for key in ("dice_mean", "dice_se"))
    return means, errors
