"""What a training would take, before it is begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QLabel

from napari_tlseg.engine.messages import Failed, Greeting
from napari_tlseg.engine.trainings import Estimate, Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.progress import duration
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.words import in_words

PAUSE = 700
"""Milliseconds after the last change until the worker is asked."""
NOT_READY = "Getting ready: the first seconds after the start go to loading PyTorch."
WORKING = "Working out how long it takes …"


class Cost(QLabel):
    """Asks the worker what a training would take, or why it cannot be, while it is in sight and the worker is idle.

    Once per `change()`, and every other job goes first. job: makes the training that would run now; InputError where it
    cannot be. annotation: what it learns from, such as masks.
    """

    def __init__(self, session: Session, job: Callable[[], Finetune | Pretrain], annotation: str) -> None:
        super().__init__(wordWrap=True)
        self._runner, self._job, self._annotation = session.runner, job, annotation
        self._owed, self._device = True, "auto"
        self._pause = QTimer(self, singleShot=True, interval=PAUSE)
        self._pause.timeout.connect(guarded(self._ask))
        self._runner.greeted.connect(self.change)
        self._runner.ended.connect(self._resume)
        if self._runner.greeting is None:
            self.setText(NOT_READY)

    def change(self, *_: object) -> None:
        """Another training would be run now: what was said of the one before no longer holds."""
        self._owed = True
        if self._runner.greeting is not None:
            self.setText(WORKING)
        self._resume()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._resume()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._pause.stop()

    def _resume(self, *_: object) -> None:
        if self._owed and self.isVisible():
            self._pause.start()

    def _ask(self) -> None:
        if not self._runner.free or self._runner.greeting is None:
            return
        self._owed = False
        try:
            job = self._job()
        except InputError as error:
            self.setText(in_words(str(error)))
            return
        self._device = job.device
        estimate = Estimate(of=_without_download(job), device=job.device)
        self._runner.submit(estimate, ended=self._tell, quietly=True)

    def _tell(self, result: Finished | Failed) -> None:
        if isinstance(result, Failed):
            self.setText(in_words(result.sentence))
        elif result.summary and self._runner.greeting is not None:
            self.setText(said(result.summary, self._annotation, self._where(self._runner.greeting)))
        else:  # it gave way
            self._owed = True

    def _where(self, greeting: Greeting) -> str:
        named = {"auto": greeting.devices[0].label, **{each.name: each.label for each in greeting.devices}}
        return named.get(self._device, self._device)


def said(facts: Mapping[str, Any], annotation: str, where: str) -> str:
    """The estimate in words: what it learns from, and how long it takes.

    >>> facts = {"training": 9, "validation": 1, "held_out": 2, "seconds": 95}
    >>> said(facts, "masks", "CPU, threads: 2")
    '9 masks to learn from, 1 to judge by, 2 held out for a final look. About 2 min (CPU, threads: 2).'
    """
    held = f", {facts['held_out']} held out for a final look" if facts["held_out"] else ""
    learned = f"{facts['training']} {annotation} to learn from, {facts['validation']} to judge by{held}."
    return f"{learned} About {duration(facts['seconds'])} ({where})."


def _without_download(job: Finetune | Pretrain) -> Finetune | Pretrain:
    """Weights from the hub are fetched when the user starts, not before."""
    return replace(job, source="none") if isinstance(job, Finetune) and isinstance(job.source, str) else job
