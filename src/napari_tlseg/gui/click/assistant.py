"""Help at hand: while someone clicks, the worker learns from the clicks and proposes the next centres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.case import Case
from napari_tlseg.data.guesses import Guess
from napari_tlseg.engine.jobs import Assist
from napari_tlseg.engine.messages import Failed
from napari_tlseg.events import Event, Finished, Proposed, Started
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.words import in_words

if TYPE_CHECKING:
    from napari_tlseg.gui.runner import Task
    from napari_tlseg.gui.session import Session

OFF = "Tick this to have the centres proposed while you click."
VOLUMES = "In CTs there is no help: which slice to click has to be found by eye."
WAITS = "Waits until the other work is done."


class Assistant(QObject):
    """One job that learns while a dock is in sight, there is something to click, and nothing else runs.

    ::

        OFF ──tick, first click──► AT WORK ──another job, dock hidden, all clicked──► AT REST ──► AT WORK …

    What it has proposed stays. The proposal of the case shown does not change under the user's eyes.
    """

    changed = Signal()
    """There is something else to say."""
    proposed = Signal()
    """The proposal of the case shown has come, or all are gone."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._wanted, self._in_sight = True, False
        self._task: Task | None = None
        self._guesses: dict[str, Guess] = {}
        self._clicks = 0
        """From how many clicks the proposals were learned."""
        self._learning = False
        self._fault = ""
        session.opened.connect(guarded(self._begin_anew))
        session.clicks_changed.connect(guarded(self._consider))
        session.runner.started.connect(guarded(self._consider))
        session.runner.ended.connect(guarded(self._consider))

    @property
    def wanted(self) -> bool:
        """Whether the user wants help."""
        return self._wanted

    def want(self, wanted: bool) -> None:
        self._wanted, self._fault = wanted, ""
        if not wanted:
            self._guesses.clear()
            self.proposed.emit()
        self._consider()

    def appear(self, in_sight: bool) -> None:
        """A dock for clicks came into sight, or the last one left it."""
        self._in_sight = in_sight
        self._consider()

    def guess(self, case: Case) -> Guess | None:
        return self._guesses.get(case.name)

    @property
    def possible(self) -> bool:
        """Whether the open folder holds photographs alone."""
        dataset = self._session.dataset
        return dataset is not None and all(len(case.geometry.shape) == 2 for case in dataset)

    @property
    def words(self) -> str:
        """What is happening, for who clicks."""
        dataset, clicks = self._session.dataset, self._session.clicks
        if dataset is None or clicks is None:
            return ""
        if not self.possible:
            return VOLUMES
        if not self._wanted:
            return OFF
        if self._fault:
            return in_words(self._fault)
        missing = Assist.first - len(list(clicks))
        if missing > 0:
            return f"Click {missing} more, then the next centres are proposed."
        if len(clicks) == len(dataset):
            return ""
        if self._learning:
            return f"Learning from your {len(list(clicks))} clicks …"
        if not self._clicks:
            return WAITS if not self._session.runner.free else "Getting ready …"
        return f"Learned from {self._clicks} clicks, and learns on. Enter accepts a centre, a click corrects it."

    def _begin_anew(self) -> None:
        self._guesses.clear()
        self._clicks, self._learning, self._fault = 0, False, ""
        if self._task is not None:
            self._task.stop()
            self._task = None
        self._consider()

    def _consider(self, _: object = None) -> None:
        """Work or rest, and look at the new click."""
        if self._task is not None and not self._task.running:  # how it ended is heard in a moment
            return
        should = self._should_work()
        if self._task is None and should and not self._session.runner.tasks:
            self._start()
        elif self._task is not None and not should:
            self._task.stop()
        elif self._task is not None:
            self._task.wake()
        self.changed.emit()

    def _should_work(self) -> bool:
        dataset, clicks = self._session.dataset, self._session.clicks
        if dataset is None or clicks is None or not (self._wanted and self._in_sight and self.possible):
            return False
        return not self._fault and 0 < len(clicks) < len(dataset) and self._session.runner.free

    def _start(self) -> None:
        folder = self._session.folder
        assert folder is not None
        task = self._session.runner.submit(Assist(data=folder), quietly=True)
        self._task = task
        task.heard.connect(guarded(lambda event: self._hear(task, event)))
        task.ended.connect(guarded(lambda result: self._end(task, result)))

    def _hear(self, task: Task, event: Event) -> None:
        if task is not self._task:  # of a folder that is open no more
            return
        if isinstance(event, Started):
            self._learning = True
            self.changed.emit()
        elif isinstance(event, Proposed):
            self._take(event)

    def _take(self, event: Proposed) -> None:
        news = self._learning or self._clicks != event.clicks
        self._learning, self._clicks = False, event.clicks
        case = self._session.case
        shown = case is not None and case.name == event.case
        if not (shown and event.case in self._guesses):
            self._guesses[event.case] = Guess(point=event.point, doubt=event.doubt, unsure=event.unsure)
        if shown:
            self.proposed.emit()
        if news:
            self.changed.emit()

    def _end(self, task: Task, result: Finished | Failed) -> None:
        if task is self._task:
            self._task, self._learning = None, False
            self._fault = result.sentence if isinstance(result, Failed) else ""
            self._consider()
