"""The second dock: pretrain on the clicks, then train on few masks, as close to the source as λ says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QHideEvent
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_tlseg.engine.trainings import Anchored, Finetune, Training
from napari_tlseg.events import Evaluated, Event
from napari_tlseg.gui.notices import guarded, log_file
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.cost import Cost
from napari_tlseg.gui.train.course import Course
from napari_tlseg.gui.train.path_plot import PathPlot
from napari_tlseg.gui.train.plan import Plan
from napari_tlseg.gui.train.sentences import WALKS, previews, unheld
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.form import field_help
from napari_tlseg.gui.widgets.heading import heading
from napari_tlseg.gui.widgets.shrinking import Shrinking
from napari_tlseg.gui.widgets.strength import StrengthSlider
from napari_tlseg.studies.jobs import Crossval, Efficiency, LambdaPath, Walking

if TYPE_CHECKING:
    import napari


class TrainDock(QWidget):
    """Train."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = Session.of(napari_viewer)
        self.plan = Plan(self.session)
        self.strength = StrengthSlider()
        self.strength.setValue(Finetune.strength)
        self.path_plot = PathPlot()
        self.cost = Cost(self.session, self.job, "masks")
        self._warm = QCheckBox(objectName="warm", toolTip=as_tooltip(field_help(Finetune)["start"]))
        self._train = QPushButton("Train", objectName="train", toolTip=as_tooltip(str(Finetune.__doc__)))
        self._path = QPushButton("λ path", objectName="path", toolTip=as_tooltip(str(LambdaPath.__doc__)))
        self.course = Course()
        self._lay_out()
        self._connect()
        self._show_run(self.session.run)
        self._refresh()
        for task in self.session.runner.tasks:
            self._watch(task)

    def _lay_out(self) -> None:
        """What is chosen scrolls above, as soon as what is started, and how it goes, needs the room below."""
        below = QWidget()
        rows = QVBoxLayout(below)
        for each in (heading("Closeness to the source"), self.strength, self.path_plot, self.cost, self._warm):
            rows.addWidget(each)
        buttons = QHBoxLayout()
        buttons.addWidget(self._train, 1)
        buttons.addWidget(self._path)
        rows.addLayout(buttons)
        rows.addWidget(self.course, 1)
        rows.addWidget(_log_button())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(Shrinking(self.plan), 1)  # so far as it needs, once there is enough for what is below
        layout.addWidget(below)

    def _connect(self) -> None:
        session, runner, plan = self.session, self.session.runner, self.plan
        runner.started.connect(self._watch)
        for signal in (session.opened, session.run_shown, plan.source.valueChanged, runner.started, runner.ended):
            signal.connect(self._refresh)
        session.opened.connect(self._clear)
        session.run_shown.connect(self._show_run)
        for signal in (session.opened, session.masks_changed, session.run_shown, plan.valueChanged, self._warm.toggled):
            signal.connect(self.cost.change)
        plan.folded.connect(lambda: self.course.make_way(plan.choosing))
        self.strength.valueChanged.connect(guarded(self._move))
        self._train.clicked.connect(guarded(lambda _=False: self._start(self.job())))
        self._path.clicked.connect(guarded(lambda _=False: self._start(plan.path())))
        plan.studies.crossval.connect(guarded(lambda: self._start(plan.study(Crossval))))
        plan.studies.efficiency.connect(guarded(lambda: self._start(plan.study(Efficiency))))
        plan.studies.used.connect(guarded(self._use))

    def job(self) -> Finetune:
        """What *Train* would run; InputError where it cannot be."""
        run = self.session.run if self._warm.isChecked() else None
        return self.plan.finetune(self.strength.value(), None if run is None else run.path)

    def _start(self, job: Anchored) -> None:
        """In the background, once what was painted just now is on the disk."""
        for button in (self._train, self._path):
            button.setEnabled(False)
        self.session.painter.settle(lambda: self._begin(job))

    def _begin(self, job: Anchored) -> None:
        try:
            self.session.runner.submit(job)
        finally:
            self._refresh()

    def _use(self, strength: float | None) -> None:
        """What a study recommends: a λ, or no source."""
        if strength is None:
            self.plan.source.setValue("none")
        else:
            self.strength.setValue(strength)

    def _watch(self, task: Task) -> None:
        """Show how a training goes, whoever began it."""
        if isinstance(task.job, Training):
            self.course.follow(task)
            self.strength.set_drift(None)
            self.path_plot.clear()
            task.heard.connect(self._hear)
            task.ended.connect(self._refresh)
            self._refresh()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Evaluated):
            self.strength.set_drift(event.drift)
        if isinstance(self._running, LambdaPath):
            self.path_plot.hear(event)

    def _clear(self) -> None:
        """Another folder: what was learned in the one before is not of interest here."""
        if not self.session.training:
            self.course.clear()
            self.path_plot.clear()
            self.strength.set_drift(None)

    @guarded
    def _show_run(self, run: Run | None) -> None:
        """How it went, unless something is being trained: a training that ended is shown, too."""
        if run is not None and not self.session.training:
            self.strength.set_drift(run.summary.get("drift"))
            self.path_plot.load(run.stages)
            self.course.show_run(run)

    def _move(self, strength: float) -> None:
        """The slider: what runs goes on with this λ, else the next run begins with it."""
        task = self.course.task
        if task is not None and isinstance(task.job, Finetune):
            self.session.runner.set_strength(task, strength)
        elif self.isVisible() and self.session.preview.possible:
            self.session.preview.move(strength)

    def hideEvent(self, event: QHideEvent) -> None:
        """Behind another tab, or closed: the canvas is no longer this dock's."""
        super().hideEvent(event)
        if not event.spontaneous():
            guarded(self.session.preview.leave)()

    @property
    def _running(self) -> Training | None:
        """What is followed."""
        task = self.course.task
        return task.job if task is not None and isinstance(task.job, Training) else None

    def _refresh(self, *_: object) -> None:
        """What can be done now."""
        run, running, picked = self.session.run, self._running, self.plan.source.value()
        source, walks = running.source if isinstance(running, Anchored) else picked, isinstance(running, Walking)
        previewed = run if self.session.preview.possible else None
        self.strength.setEnabled(not walks and (source != "none" or previewed is not None))
        self.strength.set_note(WALKS if walks else previews(previewed) if previewed else unheld(source))
        busy, can = self.session.training, self.session.folder is not None and not self.session.training
        self._train.setEnabled(can)
        self._path.setEnabled(can and picked != "none")
        self._warm.setText("Go on from the run shown" + (f" ({run.name})" if run is not None else ""))
        self._warm.setEnabled(run is not None)
        for widget in (self.cost, self._warm):
            widget.setVisible(not busy)


def _log_button() -> QToolButton:
    button = QToolButton(text="Open the log", autoRaise=True, toolTip="What happened in detail")
    button.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(log_file()))))
    return button
