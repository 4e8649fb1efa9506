"""The second dock: pretrain on the clicks, then train on few masks, as close to the source as λ says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices, QHideEvent
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.recipes import RECIPES
from napari_tlseg.engine.messages import Failed, Greeting
from napari_tlseg.engine.trainings import Anchored, Finetune, Training
from napari_tlseg.errors import InputError
from napari_tlseg.events import Evaluated, Event, Finished, Noted, Started
from napari_tlseg.gui.notices import guarded, log_file
from napari_tlseg.gui.progress import Progress, name_of
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import RUNS, Run, free_name, localizer_of, studies_of
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.cost import Cost
from napari_tlseg.gui.train.curves import Curves
from napari_tlseg.gui.train.mask_box import MaskBox
from napari_tlseg.gui.train.path_plot import PathPlot
from napari_tlseg.gui.train.sentences import WALKS, previews, unheld, verdict
from napari_tlseg.gui.train.source_box import Source, SourceBox, devices
from napari_tlseg.gui.train.study_box import StudyBox
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.fold import Fold
from napari_tlseg.gui.widgets.form import Form, field_help
from napari_tlseg.gui.widgets.shrinking import Shrinking
from napari_tlseg.gui.widgets.strength import StrengthSlider
from napari_tlseg.gui.words import LABELS, in_words
from napari_tlseg.studies.jobs import Crossval, Efficiency, LambdaPath, Walking

if TYPE_CHECKING:
    import napari

SETTINGS = (
    *("encoder", "recipe", "size", "crop", "steps", "labels", "batch", "learning_rate", "held_out", "patience"),
    *("loss", "solver", "norm", "precision", "device", "masks", "seed"),
)
OF_THE_HUB: dict[Source, str] = {"imagenet": "densenet121", "medicalnet": "resnet10-med3d"}
"""What the hub's weights are for where the user names no encoder, as in Sagie et al.; the smallest of Med3D."""


class TrainDock(QWidget):
    """Train."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = Session.of(napari_viewer)
        self.source = SourceBox(self.session)
        self.masks = MaskBox(self.session)
        self.strength = StrengthSlider()
        self.strength.setValue(Finetune.strength)
        choices = {"encoder": ["unet"], "recipe": ("auto", *RECIPES), "device": ["auto", "cpu"]}
        self.form = Form(Finetune, SETTINGS, choices, LABELS)
        self._warm = QCheckBox("Go on from the run shown", objectName="warm")
        self._warm.setToolTip(as_tooltip(field_help(Finetune)["start"]))
        self._focus = QCheckBox("Look where the clicks say", objectName="focus", checked=True)
        self._focus.setToolTip(as_tooltip(field_help(Finetune)["focus"]))
        self.cost = Cost(self.session, self.job, "masks")
        self._no_gpu = QLabel(wordWrap=True, objectName="no_gpu")
        self._train = QPushButton("Train", objectName="train")
        self._train.setToolTip(as_tooltip(str(Finetune.__doc__)))
        self._path = QPushButton("λ path", objectName="path")
        self._path.setToolTip(as_tooltip(str(LambdaPath.__doc__)))
        self.progress = Progress()
        self.path_plot = PathPlot()
        self.curves = Curves()
        self._said = QLabel(wordWrap=True, objectName="said")
        self._said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._notes = QLabel(wordWrap=True, objectName="notes")
        self._assumed = Fold("What was assumed", self._notes)
        self._settings = Fold("Training settings", self.form)
        self.studies = StudyBox()
        self._worth = Fold("What is transfer worth here?", self.studies)
        self._drawn = False
        """Whether there are curves."""
        self._task: Task | None = None
        self._stage = ""
        self._lay_out()
        self._connect()
        self._greet(self.session.runner.greeting)
        self._clear()
        self._show_run(self.session.run)
        self._refresh()
        for task in self.session.runner.tasks:
            self._watch(task)

    def _lay_out(self) -> None:
        """What is chosen scrolls above; what is started, and how it goes, stays in sight below."""
        above, below = QWidget(), QWidget()
        column, rows = QVBoxLayout(above), QVBoxLayout(below)
        for each in (_heading("Source"), self.source, _heading("Masks"), self.masks, self._focus):
            column.addWidget(each)
        for each in (self._settings, self._worth, self._no_gpu):
            column.addWidget(each)
        for each in (
            _heading("Closeness to the source"),
            self.strength,
            self.path_plot,
            self.cost,
            self._warm,
        ):
            rows.addWidget(each)
        buttons = QHBoxLayout()
        buttons.addWidget(self._train, 1)
        buttons.addWidget(self._path)
        rows.addLayout(buttons)
        for each in (self.progress, self._said, self._assumed):
            rows.addWidget(each)
        rows.addWidget(self.curves, 1)
        rows.addStretch(0)  # as long as there are no curves
        rows.addWidget(_log_button())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(Shrinking(above))
        layout.addWidget(below, 1)

    def _connect(self) -> None:
        session, runner = self.session, self.session.runner
        runner.greeted.connect(self._greet)
        runner.started.connect(self._watch)
        for signal in (session.opened, session.run_shown, self.source.valueChanged, runner.started, runner.ended):
            signal.connect(self._refresh)
        session.opened.connect(self._clear)
        session.run_shown.connect(self._show_run)
        changes = session.opened, session.masks_changed, session.run_shown, self.form.valueChanged
        for change in (*changes, self.source.valueChanged, self._warm.toggled, self._focus.toggled):
            change.connect(self.cost.change)
        for fold in (self._settings, self._worth, self.source.settings):
            fold.toggled.connect(self._arrange)
        self.strength.valueChanged.connect(guarded(self._move))
        self._train.clicked.connect(guarded(self.train))
        self._path.clicked.connect(guarded(self.train_path))
        self.studies.crossval.connect(guarded(lambda: self._start(self.study_job(Crossval))))
        self.studies.efficiency.connect(guarded(lambda: self._start(self.study_job(Efficiency))))
        self.studies.used.connect(guarded(self._use))

    def job(self) -> Finetune:
        """What *Train* would run; InputError where it cannot be."""
        run, strength, settings = self.session.run, self.strength.value(), self._asked()
        out = self._free(_name(settings["source"], strength))
        start = run.path if run is not None and self._warm.isChecked() else None
        return Finetune(out=out, strength=strength, start=start, **settings)

    def path_job(self) -> LambdaPath:
        """What *λ path* would run; InputError where it cannot be."""
        settings = self._asked()
        return LambdaPath(out=self._free(f"{_stem(settings['source'])}-path"), **settings)

    def study_job(self, kind: type[Crossval] | type[Efficiency]) -> Crossval | Efficiency:
        """What *Recommend λ* or *Label efficiency* would run: the study that is there, if it is the same, goes on."""
        settings = {**self._asked(), **self.studies.form.value(), "unreadable": "skip"}
        source = settings["source"]
        out = self._free(f"{_stem(source)}-{kind.__name__.lower()}")
        if kind is Crossval:
            job: Crossval | Efficiency = Crossval(out=out, **settings)
        else:
            sources = ("none",) if source == "none" else ("none", str(source))
            job = Efficiency(out=out, sources=sources, **{**settings, "source": "none"})
        begun = (study.path for study in studies_of(self._folder()) if study.record == job.record)
        return replace(job, out=next(begun, out))

    def _use(self, strength: float | None) -> None:
        """What a study recommends: a λ, or no source."""
        if strength is None:
            self.source.setValue("none")
        else:
            self.strength.setValue(strength)

    def _asked(self) -> dict[str, Any]:
        """What all share."""
        for problem in self.form.problems().values():
            raise InputError(problem)
        source, settings = self.source.value(), self.form.value()
        if settings["encoder"] is None:
            settings["encoder"] = OF_THE_HUB.get(source)
        return {"data": self._folder(), "source": source, "focus": self._localizer() or "none", **settings}

    def _folder(self) -> Path:
        if self.session.folder is None:
            raise InputError("no folder is open", remedy="open one in the dock Click targets")
        return self.session.folder

    def _free(self, name: str) -> Path:
        return free_name(self._folder() / RUNS, name)

    def _localizer(self) -> Path | None:
        """What says where to look; None for whole images."""
        folder = self.session.folder
        return localizer_of(folder, self.source.value()) if folder is not None and self._focus.isChecked() else None

    def train(self) -> None:
        """Begin, in the background, once what was painted just now is on the disk."""
        self._start(self.job())

    def train_path(self) -> None:
        """Likewise, at every λ."""
        self._start(self.path_job())

    def _start(self, job: Anchored) -> None:
        for button in (self._train, self._path):
            button.setEnabled(False)
        self.session.painter.settle(lambda: self._begin(job))

    def _begin(self, job: Anchored) -> None:
        try:
            self.session.runner.submit(job)
        finally:
            self._refresh()

    def _watch(self, task: Task) -> None:
        """Show how a training goes, whoever began it."""
        if isinstance(task.job, Training):
            self._task, self._stage = task, ""
            self._say("")
            self._note([])
            self.strength.set_drift(None)
            self.path_plot.clear()
            self.progress.follow(task)
            task.heard.connect(self._hear)
            task.ended.connect(self._end)
            self._refresh()

    def _hear(self, event: Event) -> None:
        match event:
            case Started():
                self._stage = event.stage
                if event.stage == "train" and self._task is not None:
                    self.curves.begin(_title(self._task), event.total)
                    self._draw(True)
            case Evaluated():
                self.strength.set_drift(event.drift)
            case Noted() if self._stage:  # not what was assumed, but what happened
                self._say(in_words(event.text))
            case Noted():
                self._note([*self._notes.text().splitlines(), in_words(event.text)])
        self.curves.hear(event)
        if self._task is not None and isinstance(self._task.job, LambdaPath):
            self.path_plot.hear(event)

    def _end(self, result: Finished | Failed) -> None:
        self._task = None
        if isinstance(result, Failed):
            self._say(in_words(result.sentence))
        elif result.out is None:
            self._say("Stopped before there was anything to keep.")
        elif "trials" in result.summary:
            self._say("")  # it stands with its figure
        self._refresh()

    def _clear(self) -> None:
        """Another folder: what was learned in the one before is not of interest here."""
        if not self.session.training:
            self._say("")
            self._note([])
            self._draw(False)
            self.path_plot.clear()
            self.strength.set_drift(None)

    @guarded
    def _show_run(self, run: Run | None) -> None:
        """How it went, unless something is being trained: a training that ended is shown, too."""
        if self.session.training or run is None:
            return
        self._say(verdict(run))
        self.strength.set_drift(run.summary.get("drift"))
        self.path_plot.load(run.stages)
        if (run.path / "events.jsonl").exists():
            self.curves.load(run.path)
            self._draw(True)

    def _move(self, strength: float) -> None:
        """The slider: what runs goes on with this λ, else the next run begins with it."""
        if self._task is not None and isinstance(self._task.job, Finetune):
            self.session.runner.set_strength(self._task, strength)
        elif self._previews:
            self.session.preview.move(strength)

    def hideEvent(self, event: QHideEvent) -> None:
        """Behind another tab, or closed: the canvas is no longer this dock's."""
        super().hideEvent(event)
        if not event.spontaneous():
            guarded(self.session.preview.leave)()

    @property
    def _previews(self) -> bool:
        """Whether the slider shows what the run that is looked at finds at its λ."""
        return self.isVisible() and self.session.preview.possible

    def _refresh(self, *_: object) -> None:
        """What can be done now."""
        run, busy, folder = self.session.run, self.session.training, self.session.folder
        self._warm.setText("Go on from the run shown" + (f" ({run.name})" if run is not None else ""))
        self._warm.setEnabled(run is not None)
        self._focus.setEnabled(folder is not None and localizer_of(folder, self.source.value()) is not None)
        running = self._task.job if self._task is not None else None
        source = running.source if isinstance(running, Anchored) else self.source.value()
        walks = isinstance(running, Walking)
        self.strength.setEnabled(not walks and (source != "none" or self.session.preview.possible))
        self.strength.set_note(
            WALKS if walks else previews(run) if run is not None and self.session.preview.possible else unheld(source)
        )
        self._train.setEnabled(folder is not None and not busy)
        self._path.setEnabled(folder is not None and not busy and source != "none")
        self.studies.setPossible(crossval=self._path.isEnabled(), efficiency=self._train.isEnabled())
        self.studies.setStudies(() if folder is None else studies_of(folder), self.source.value())
        self._arrange()
        for widget in (self.cost, self._warm):
            widget.setVisible(not busy)
        self._no_gpu.setVisible(bool(self._no_gpu.text()))

    def _draw(self, drawn: bool) -> None:
        self._drawn = drawn
        self._arrange()

    def _arrange(self) -> None:
        """Settings that are being chosen need the room more than the curves of what is over."""
        choosing = any(fold.is_open for fold in (self._settings, self._worth, self.source.settings))
        self.curves.setVisible(self._drawn and (self.session.training or not choosing))

    def _greet(self, greeting: Greeting | None) -> None:
        if greeting is not None:
            self._no_gpu.setText(f"GPU not used: {greeting.no_gpu}." if greeting.no_gpu else "")
            self.form.set_choices("encoder", greeting.encoders)
            self.form.set_choices("device", devices(greeting))
            self._refresh()

    def _say(self, text: str) -> None:
        self._said.setText(text)
        self._said.setVisible(bool(text))

    def _note(self, notes: list[str]) -> None:
        self._notes.setText("\n".join(notes))
        self._assumed.setVisible(bool(notes))


def _name(source: Source, strength: float) -> str:
    """What a run is called: after its source and λ."""
    return "scratch" if source == "none" else f"{_stem(source)}-{'inf' if math.isinf(strength) else f'{strength:g}'}"


def _stem(source: Source) -> str:
    return source if isinstance(source, str) else source.stem if source.suffix == ".safetensors" else source.name


def _title(task: Task) -> str:
    job = task.job
    return job.out.name if isinstance(job, Anchored) else name_of(job)


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def _log_button() -> QPushButton:
    button = QPushButton("Open the log", flat=True, toolTip="What happened in detail, also in the worker process")
    button.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(log_file()))))
    return button
