"""How a training goes, whoever began it, and how the run that is looked at went."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_tlseg.engine.messages import Failed
from napari_tlseg.engine.trainings import Anchored
from napari_tlseg.events import Event, Finished, Noted, Started
from napari_tlseg.gui.progress import Progress, name_of
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.train.curves import Curves
from napari_tlseg.gui.train.sentences import verdict
from napari_tlseg.gui.widgets.fold import Fold
from napari_tlseg.gui.widgets.shrinking import Shrinking
from napari_tlseg.gui.words import in_words


class Course(QWidget):
    """Progress with its stop button, a sentence, what was assumed, the curves; these scroll where there is no room."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress()
        self.curves = Curves()
        self._plots = Shrinking(self.curves)
        self._said = QLabel(wordWrap=True, objectName="said")
        self._said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._notes = QLabel(wordWrap=True, objectName="notes")
        self._assumed = Fold("What was assumed", self._notes)
        self._task: Task | None = None
        self._stage = ""
        self._drawn, self._choosing = False, False
        """Whether there are curves, and whether settings are being chosen."""
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for each in (self.progress, self._said, self._assumed):
            rows.addWidget(each)
        rows.addWidget(self._plots, 1)
        rows.addStretch(0)  # as long as there are no curves
        self.clear()

    @property
    def task(self) -> Task | None:
        """The training that is followed."""
        return self._task

    def follow(self, task: Task) -> None:
        self.clear()
        self._task, self._stage = task, ""
        self.progress.follow(task)
        task.heard.connect(self._hear)
        task.ended.connect(self._end)

    def clear(self) -> None:
        """Nothing is known any more."""
        self._say("")
        self._note([])
        self._draw(False)

    def show_run(self, run: Run) -> None:
        """One that is over; InputError where its events cannot be read."""
        self._say(verdict(run))
        if (run.path / "events.jsonl").exists():
            self.curves.load(run.path)
            self._draw(True)

    def make_way(self, choosing: bool) -> None:
        """Settings that are being chosen need the room more than the curves of what is over."""
        self._choosing = choosing
        self._arrange()

    def _hear(self, event: Event) -> None:
        match event:
            case Started():
                self._stage = event.stage
                if event.stage == "train" and self._task is not None:
                    self.curves.begin(_title(self._task), event.total)
                    self._draw(True)
            case Noted() if self._stage:  # not what was assumed, but what happened
                self._say(in_words(event.text))
            case Noted():
                self._note([*self._notes.text().splitlines(), in_words(event.text)])
        self.curves.hear(event)

    def _end(self, result: Finished | Failed) -> None:
        self._task = None
        if isinstance(result, Failed):
            self._say(in_words(result.sentence))
        elif result.out is None:
            self._say("Stopped before there was anything to keep.")
        elif "trials" in result.summary:
            self._say("")  # it stands with its figure
        self._arrange()

    def _draw(self, drawn: bool) -> None:
        self._drawn = drawn
        self._arrange()

    def _arrange(self) -> None:
        self._plots.setVisible(self._drawn and (self._task is not None or not self._choosing))

    def _say(self, text: str) -> None:
        self._said.setText(text)
        self._said.setVisible(bool(text))

    def _note(self, notes: list[str]) -> None:
        self._notes.setText("\n".join(notes))
        self._assumed.setVisible(bool(notes))


def _title(task: Task) -> str:
    job = task.job
    return job.out.name if isinstance(job, Anchored) else name_of(job)
