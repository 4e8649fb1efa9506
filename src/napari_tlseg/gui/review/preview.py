"""What a path of λ finds in the slice that is seen, at the λ of a slider that moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case, Labels
from napari_tlseg.events import Event, Previewed
from napari_tlseg.gui.canvas.layers import plane_of
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.review.meaning import ERRORS, FOUND
from napari_tlseg.gui.review.overlay import ErrorOverlay
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.widgets.strength import strength_text
from napari_tlseg.studies.jobs import Scrub

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session

ROLE = "preview"
SETTLED = 200
"""Milliseconds that a slice is looked at before it is prepared."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Of what a preview is wanted."""

    run: Path
    case: Case
    plane: int
    classes: tuple[str, ...]
    judge: bool


class Preview(QObject):
    """One Scrub job at most, of the place that is seen; it begins with the first λ, and ends when it is left."""

    shown = Signal(object)
    """Previewed."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._place: Place | None = None
        self._truth: Labels | None = None
        """(1, Y, X)."""
        self._task: Task | None = None
        self._strength = 0.0
        self.label = 1
        """The class that is looked at."""
        self.overlay = ErrorOverlay(session.canvas, ROLE)
        self._settled = QTimer(self, singleShot=True, interval=SETTLED)
        self._settled.timeout.connect(guarded(self._go_on))
        session.runner.started.connect(self._give_way)
        session.case_shown.connect(self._case_shown)
        session.run_shown.connect(self.leave)
        session.opened.connect(self.leave)

    @property
    def possible(self) -> bool:
        """Whether the run that is looked at holds a path, and no training runs."""
        run = self._session.run
        return run is not None and bool(run.stages) and not self._session.training

    @property
    def active(self) -> bool:
        return self._place is not None

    def move(self, strength: float) -> None:
        """Show the slice at this λ, as soon as it can be."""
        self._strength = strength
        if self._here() != self._place:
            self._begin()
        elif self._task is not None and self._task.running:
            self._session.runner.set_strength(self._task, strength)
        else:  # it gave way to another job
            self._submit()

    def leave(self, *_: object) -> None:
        """Nothing is wanted any more."""
        if self._place is not None:
            self._place, self._truth = None, None
            self._end()
            self._settled.stop()
            self._session.viewer.dims.events.current_step.disconnect(self._scrolled)
            self.overlay.clear()

    def _here(self) -> Place | None:
        session, run, case = self._session, self._session.run, self._session.case
        if not self.possible or run is None or case is None or session.dataset is None or session.folder is None:
            return None
        judge = case.mask is not None and not run.hides(case.name, session.folder)
        return Place(run=run.path, case=case, plane=session.plane(), classes=session.dataset.classes, judge=judge)

    def _begin(self) -> None:
        if not self.active:
            self._session.viewer.dims.events.current_step.connect(self._scrolled)
        place = self._place = self._here()
        self._end()
        self.overlay.clear()
        if place is None:
            self._session.viewer.dims.events.current_step.disconnect(self._scrolled)
        elif place.judge:
            self._session.reader.run(partial(_truth, place), partial(self._judge, place))
        else:
            self._truth = None
            self._submit()

    def _judge(self, place: Place, truth: Labels | None) -> None:
        if place == self._place:
            self._truth = truth
            self._submit()

    def _submit(self) -> None:
        place, folder = self._place, self._session.folder
        if place is not None and folder is not None:
            job = Scrub(data=folder, model=place.run, case=place.case.name, plane=place.plane, strength=self._strength)
            self._task = self._session.runner.submit(job)
            self._task.heard.connect(guarded(partial(self._hear, place)))

    def _end(self) -> None:
        if self._task is not None and self._task.running:
            self._task.stop()
        self._task = None

    def _hear(self, place: Place, event: Event) -> None:
        if not isinstance(event, Previewed) or place != self._place:
            return
        prediction, truth = event.labels[None], self._truth
        meaning = FOUND if truth is None else ERRORS
        meaning = replace(meaning, title=f"{meaning.title} at λ = {strength_text(event.strength)}")
        image = self._session.image
        if self.overlay.layer is not None:
            self.overlay.renew(prediction, self.label, meaning)
        elif image is not None:
            base = np.zeros_like(prediction) if truth is None else truth
            like = plane_of(image, place.plane)
            self.overlay.show(base, prediction, like, self.label, place.classes, meaning=meaning)
        self.shown.emit(event)

    def _case_shown(self, _: Case) -> None:
        if self.active:
            self._go_on()

    def _scrolled(self, *_: object) -> None:
        self._settled.start()

    def _go_on(self) -> None:
        """At the place that is seen now."""
        if self.active and self._here() != self._place:
            self._begin()

    def _give_way(self, task: Task) -> None:
        if self._session.training:
            self.leave()


def _truth(place: Place) -> Labels | None:
    """(1, Y, X); None of a plane that is not painted."""
    case = place.case
    if case.painted is not None and place.plane not in case.painted:
        return None
    return read_mask(case, len(place.classes))[place.plane : place.plane + 1]
