"""How far a job is: a bar with the time left and a stop button in a dock, and a bar in napari's activity dock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar

from napari.utils import progress
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.messages import Failed
from napari_tlseg.events import Event, Finished, Started, Stepped, Visited
from napari_tlseg.gui.runner import Runner, Task

MOMENT = 300
"""Milliseconds between two drawings in the activity dock."""
STAGES = {
    "read": "Reading the images",
    "train": "Training",
    "score": "Scoring",
    "predict": "Writing masks",
    "check": "Checking the images",
    "locate": "Proposing centres",
    "disagree": "Comparing the λ of the path",
    "explain": "Looking into the model",
    "pseudo-label": "Labelling the images without a mask",
}
"""What the stages of the jobs are called here."""


@dataclass
class Stage:
    """One stage of a job, as its events tell it."""

    name: str = ""
    total: int = 0
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    def hear(self, event: Event) -> bool:
        """Whether the event says something new of how far it is."""
        match event:
            case Started():
                self.name, self.total, self.done, self.began = event.stage, event.total, 0, time.monotonic()
            case Stepped():
                self.done = event.step
            case Visited():
                self.done += 1
            case _:
                return False
        return True

    @property
    def words(self) -> str:
        *of, stage = self.name.rsplit(": ", 1)  # of a study: which of its trainings
        return " · ".join([*of, STAGES.get(stage, stage)])

    @property
    def left(self) -> float | None:
        """Seconds until this stage ends, once some of it is done."""
        if self.done < 2:
            return None
        return (time.monotonic() - self.began) / self.done * (self.total - self.done)


class Progress(QWidget):
    """Follows one task at a time; hidden where there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._task: Task | None = None
        self._stage = Stage()
        self._label = QLabel(wordWrap=True)
        self._bar = QProgressBar(textVisible=False)
        self._stop = QPushButton("Stop", toolTip="End after this step; what was learned or written so far is kept")
        self._stop.clicked.connect(self._ask)
        row = QHBoxLayout()
        row.addWidget(self._bar, 1)
        row.addWidget(self._stop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._label)
        layout.addLayout(row)
        self.setVisible(False)

    @property
    def task(self) -> Task | None:
        """The one that is followed."""
        return self._task

    def follow(self, task: Task) -> None:
        self._task, self._stage = task, Stage()
        self._label.setText("Getting ready …")
        self._bar.setRange(0, 0)
        self._stop.setEnabled(True)
        self.setVisible(True)
        task.heard.connect(self._hear)
        task.ended.connect(self._end)

    def _ask(self) -> None:
        if self._task is not None:
            self._task.stop()
            self._stop.setEnabled(False)
            self._label.setText("Stopping after this step …")

    def _hear(self, event: Event) -> None:
        if not self._stage.hear(event):
            return
        stage = self._stage
        self._bar.setRange(0, max(stage.total, 1))
        self._bar.setValue(stage.done)
        if self._stop.isEnabled():
            left = "" if stage.left is None else f" · {duration(stage.left)} left"
            self._label.setText(f"{stage.words}: {stage.done} of {stage.total}{left}")

    def _end(self, result: Finished | Failed) -> None:
        self._task = None
        self.setVisible(False)


class Activity(QObject):
    """A bar in the activity dock for every task of a runner, but for those that write nothing.

    napari lets all other events in whenever it draws a bar. So they are drawn by themselves, a few times a second, as
    in the middle of one event the listeners would hear the next; and never one within another, also of two windows.
    """

    _drawing: ClassVar[bool] = False

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self._stages: dict[Task, Stage] = {}
        self._bars: dict[Task, progress] = {}
        self._moment = QTimer(self, singleShot=True, interval=MOMENT)
        self._moment.timeout.connect(self._draw)
        runner.started.connect(self._follow)
        runner.ended.connect(self._end)

    def close(self) -> None:
        self._moment.stop()
        self._stages.clear()
        self._clear()

    def _follow(self, task: Task) -> None:
        if not task.job.beside:
            self._stages[task] = Stage()
            task.heard.connect(lambda event: self._hear(task, event))
            self._moment.start()

    def _hear(self, task: Task, event: Event) -> None:
        if task in self._stages and self._stages[task].hear(event) and not self._moment.isActive():
            self._moment.start()

    def _end(self, task: Task) -> None:
        self._stages.pop(task, None)
        if Activity._drawing:  # perhaps this very bar
            self._moment.start()
        else:
            self._clear()

    def _clear(self) -> None:
        """Take away the bars of what is over."""
        for task in self._bars.keys() - self._stages.keys():
            self._bars.pop(task).close()

    def _draw(self) -> None:
        if Activity._drawing:
            self._moment.start()
            return
        Activity._drawing = True
        try:
            for task, stage in list(self._stages.items()):
                self._draw_bar(task, stage)
        finally:
            Activity._drawing = False
        self._clear()

    def _draw_bar(self, task: Task, stage: Stage) -> None:
        name = name_of(task.job)
        if task not in self._bars:
            self._bars[task] = progress(total=0, desc=name)
        bar, words = self._bars[task], name if stage.name in ("", "train") else f"{name}: {stage.words.lower()}"
        if bar.total != stage.total:
            bar.total = stage.total
        if bar.desc != f"{words}: ":  # as tqdm keeps it
            bar.set_description(words)
        if bar.n != stage.done:
            bar.update(stage.done - bar.n)


def name_of(job: Job) -> str:
    """What a job is called here."""
    names = {
        "Finetune": "Training",
        "LambdaPath": "λ path",
        "Crossval": "Recommending λ",
        "Efficiency": "Label efficiency",
        "Pretrain": "Learning from clicks",
        "Predict": "Predicting",
        "Locate": "Proposing",
        "Disagree": "Comparing λ",
        "Explain": "Looking into the model",
    }
    return names.get(type(job).__name__, type(job).__name__)


def duration(seconds: float) -> str:
    """In words, as exact as it is of use.

    >>> duration(8), duration(95), duration(5000)
    ('8 s', '2 min', '1 h 23 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
