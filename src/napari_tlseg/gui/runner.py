"""Jobs on behalf of a window: submitted to the worker process, heard in the thread of the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_tlseg.engine.client import Client, Handle, State
from napari_tlseg.engine.jobs import Assist, Job
from napari_tlseg.engine.messages import Failed, Greeting
from napari_tlseg.events import Event, Finished
from napari_tlseg.gui.notices import complain, log_file

MOMENT = 40
"""Milliseconds between two λ that are sent to a running job: a slider that is dragged says more."""


class Task(QObject):
    """A job that was submitted. Its signals come in the thread of the window, `ended` exactly once and last."""

    heard = Signal(object)
    """Event."""
    ended = Signal(object)
    """Finished or Failed."""
    _told = Signal(object)

    def __init__(self, job: Job, parent: QObject) -> None:
        super().__init__(parent)
        self.job = job
        self.result: Finished | Failed | None = None
        self.handle: Handle | None = None
        self._told.connect(self._hear, Qt.ConnectionType.QueuedConnection)

    def tell(self, event: Event | Failed) -> None:
        """Called in any thread; it is heard later, in that of the window."""
        self._told.emit(event)

    def wake(self) -> None:
        """What it works with has changed: let it look again."""
        if self.handle is not None:
            self.handle.wake()

    def stop(self) -> None:
        """End it after the step it is at; what was learned is kept."""
        if self.handle is not None:
            self.handle.stop()

    @property
    def running(self) -> bool:
        """Whether it runs or waits."""
        return self.result is None

    def _hear(self, event: Event | Failed) -> None:
        if isinstance(event, Finished | Failed):
            self.result = event
            self.ended.emit(event)
        else:
            self.heard.emit(event)


class Runner(QObject):
    """The worker process of one window. Jobs run one after the other, but those `beside` give way to whatever comes."""

    started = Signal(object)
    """Task, as it is submitted."""
    ended = Signal(object)
    """Task, with its result; it is no longer among the `tasks`, and has not said so itself yet."""
    greeted = Signal(object)
    """Greeting: the worker is up, and says what it can work with."""
    _greeted = Signal(object)
    _died = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.greeting: Greeting | None = None
        self.tasks: list[Task] = []
        """Those that run or wait."""
        self._failure: Failed | None = None
        """The last that the user was told of: when the worker dies, all its jobs end with the same."""
        self._client = Client(log_file(), died=self._died.emit)
        self._died.connect(self._complain)
        self._greeted.connect(self._welcome)
        self._pending: tuple[Task, float] | None = None
        self._moment = QTimer(self, singleShot=True, interval=MOMENT)
        self._moment.timeout.connect(self._send_strength)

    @property
    def pid(self) -> int | None:
        """Of the worker process."""
        return self._client.pid

    @property
    def alive(self) -> bool:
        return self._client.state is State.RUNNING

    @property
    def free(self) -> bool:
        """Whether nothing runs or waits, but what helps with clicking: that gives way and goes on later."""
        return all(isinstance(task.job, Assist) for task in self.tasks)

    def start(self) -> None:
        """Start the worker, where it does not run: it takes seconds to be ready. OSError where there can be no log."""
        self._client.start()
        self._client.greeting.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else self._greeted.emit(done.result())
        )

    def submit(
        self,
        job: Job,
        heard: Callable[[Event], object] | None = None,
        ended: Callable[[Finished | Failed], object] | None = None,
        *,
        quietly: bool = False,
    ) -> Task:
        """Run a job after those submitted before; `heard` and `ended` are called in this thread.

        The user is told of a failure, unless it goes `quietly` and whoever submitted says it.
        """
        job = replace(job, unreadable="skip")  # as the folder was read that is open
        if not self.alive:
            self.start()
        for other in self.tasks:
            if other.job.beside:
                other.stop()
        task = Task(job, self)
        task.ended.connect(lambda result: self._end(task, quietly))
        for signal, slot in ((task.heard, heard), (task.ended, ended)):
            if slot is not None:
                signal.connect(slot)
        self.tasks.append(task)
        task.handle = self._client.submit(job, task.tell)
        self.started.emit(task)
        return task

    def set_strength(self, task: Task, strength: float) -> None:
        """Let a running job go on with another λ: at once, or where one was sent just now, a moment later."""
        self._pending = (task, strength)
        if not self._moment.isActive():
            self._send_strength()

    def close(self) -> None:
        """Stop all jobs and end the worker; takes seconds where one has something to save. Nothing more is heard."""
        self._moment.stop()
        self.blockSignals(True)
        for task in self.tasks:
            task.blockSignals(True)
        self._client.close()

    def _send_strength(self) -> None:
        if self._pending is not None:
            (task, strength), self._pending = self._pending, None
            if task.running and task.handle is not None:
                task.handle.set_strength(strength)
            self._moment.start()

    def _welcome(self, greeting: Greeting) -> None:
        self.greeting = greeting
        self.greeted.emit(greeting)

    def _end(self, task: Task, quietly: bool) -> None:
        self.tasks.remove(task)
        if isinstance(task.result, Failed) and not quietly:
            self._complain(task.result)
        self.ended.emit(task)
        task.deleteLater()

    def _complain(self, failed: Failed) -> None:
        if failed is not self._failure:
            self._failure = failed
            complain(failed.sentence)
