"""What is to be trained: from which source, on which masks, how. The jobs that the dock begins are made here."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_tlseg.data.recipes import RECIPES
from napari_tlseg.engine.messages import Greeting
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.gui.runs import RUNS, free_name, localizer_of, studies_of
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.mask_box import MaskBox
from napari_tlseg.gui.train.source_box import Source, SourceBox, devices
from napari_tlseg.gui.train.study_box import StudyBox
from napari_tlseg.gui.widgets.fields import Choices, as_tooltip
from napari_tlseg.gui.widgets.fold import Fold
from napari_tlseg.gui.widgets.form import Form, field_help
from napari_tlseg.gui.widgets.heading import heading
from napari_tlseg.gui.words import LABELS
from napari_tlseg.studies.jobs import Crossval, Efficiency, LambdaPath

SETTINGS = (
    *("encoder", "transfer", "recipe", "size", "crop", "steps", "labels", "batch", "learning_rate", "held_out"),
    *("patience", "loss", "solver", "norm", "precision", "device", "masks", "seed"),
)
TRANSFERS = {
    "full": "all of it",
    "lowest:2": "its two lowest layers",
    "mean-var": "the mean and spread of each layer",
}
"""As Raghu et al. tried them."""
OF_THE_HUB: dict[Source, str] = {"imagenet": "densenet121", "medicalnet": "resnet10-med3d"}
"""What the hub's weights are for where the user names no encoder, as in Sagie et al.; the smallest of Med3D."""


class Plan(QWidget):
    """The source, the masks, and the settings that few need."""

    valueChanged = Signal()
    """Another training is asked for."""
    folded = Signal()
    """Settings were unfolded, or folded away."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.source = SourceBox(session)
        self.masks = MaskBox(session)
        self.focus = QCheckBox("Look where the clicks say", objectName="focus", checked=True)
        self.focus.setToolTip(as_tooltip(field_help(Finetune)["focus"]))
        choices: dict[str, Choices] = {"encoder": ["unet"], "recipe": ("auto", *RECIPES), "device": ["auto", "cpu"]}
        choices["transfer"] = TRANSFERS
        self.form = Form(Finetune, SETTINGS, choices, LABELS)
        self.settings = Fold("Training settings", self.form)
        self.studies = StudyBox()
        self.worth = Fold("What is transfer worth here?", self.studies)
        self._no_gpu = QLabel(wordWrap=True, objectName="no_gpu")
        self._lay_out()
        self._connect()
        self._greet(session.runner.greeting)
        self._refresh()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        for each in (heading("Source"), self.source, heading("Masks"), self.masks, self.focus):
            column.addWidget(each)
        for each in (self.settings, self.worth, self._no_gpu):
            column.addWidget(each)

    def _connect(self) -> None:
        session, runner = self.session, self.session.runner
        runner.greeted.connect(self._greet)
        for signal in (session.opened, self.source.valueChanged, runner.started, runner.ended):
            signal.connect(self._refresh)
        for signal in (self.source.valueChanged, self.form.valueChanged, self.focus.toggled):
            signal.connect(self.valueChanged)
        for fold in (self.settings, self.worth, self.source.settings):
            fold.toggled.connect(self.folded)

    @property
    def choosing(self) -> bool:
        """Whether settings are unfolded."""
        return any(fold.is_open for fold in (self.settings, self.worth, self.source.settings))

    def finetune(self, strength: float, start: Path | None) -> Finetune:
        """A training at this λ, which goes on from the run `start`; InputError where it cannot be, as of the others."""
        settings = self._settings()
        source = settings["source"]
        name = "scratch" if source == "none" else f"{_stem(source)}-{_number(strength)}"
        return Finetune(out=self._free(name), strength=strength, start=start, **settings)

    def path(self) -> LambdaPath:
        """One at every λ."""
        settings = self._settings()
        return LambdaPath(out=self._free(f"{_stem(settings['source'])}-path"), **settings)

    def study(self, kind: type[Crossval] | type[Efficiency]) -> Crossval | Efficiency:
        """Where the same was begun already, it goes on with that."""
        settings = {**self._settings(), **self.studies.form.value(), "unreadable": "skip"}
        source = settings["source"]
        out = self._free(f"{_stem(source)}-{kind.__name__.lower()}")
        if kind is Crossval:
            job: Crossval | Efficiency = Crossval(out=out, **settings)
        else:
            sources = ("none",) if source == "none" else ("none", str(source))
            job = Efficiency(out=out, sources=sources, **{**settings, "source": "none"})
        begun = (study.path for study in studies_of(self._folder()) if study.record == job.record)
        return replace(job, out=next(begun, out))

    def _settings(self) -> dict[str, Any]:
        """What all of them share."""
        for problem in self.form.problems().values():
            raise InputError(problem)
        source, settings = self.source.value(), self.form.value()
        if settings["encoder"] is None:
            settings["encoder"] = OF_THE_HUB.get(source)
        localizer = self._localizer() if self.focus.isChecked() else None
        return {"data": self._folder(), "source": source, "focus": localizer or "none", **settings}

    def _folder(self) -> Path:
        if self.session.folder is None:
            raise InputError("no folder is open", remedy="open one in the dock Click targets")
        return self.session.folder

    def _free(self, name: str) -> Path:
        return free_name(self._folder() / RUNS, name)

    def _localizer(self) -> Path | None:
        """What can say where to look."""
        folder = self.session.folder
        return None if folder is None else localizer_of(folder, self.source.value())

    def _refresh(self, *_: object) -> None:
        """What can be chosen now, and what is known of it."""
        folder, source = self.session.folder, self.source.value()
        can = folder is not None and not self.session.training
        self.form.assume({"source": source, "strength": 0.0})  # λ is the slider's: of it the job says what does not fit
        self.focus.setEnabled(self._localizer() is not None)
        self.studies.setPossible(crossval=can and source != "none", efficiency=can)
        self.studies.setStudies(() if folder is None else studies_of(folder), source)

    def _greet(self, greeting: Greeting | None) -> None:
        """What the worker can work with."""
        why = greeting.no_gpu if greeting is not None else ""
        self._no_gpu.setText(f"GPU not used: {why}." if why else "")
        self._no_gpu.setVisible(bool(why))
        if greeting is not None:
            self.form.set_choices("encoder", greeting.encoders)
            self.form.set_choices("device", devices(greeting))


def _stem(source: Source) -> str:
    """What its runs are named after."""
    return source if isinstance(source, str) else source.stem if source.suffix == ".safetensors" else source.name


def _number(strength: float) -> str:
    return "inf" if math.isinf(strength) else f"{strength:g}"
