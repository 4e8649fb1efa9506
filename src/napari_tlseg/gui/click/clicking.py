"""What can be done with the case shown: click, say that there is no target, go on, go back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.case import Case
from napari_tlseg.data.guesses import Guess
from napari_tlseg.gui.click.centres import Centres
from napari_tlseg.gui.click.clicks import Point
from napari_tlseg.gui.click.opening import ask_project
from napari_tlseg.gui.click.proposals import Proposals
from napari_tlseg.gui.notices import guarded

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session


class Clicking(QObject):
    """One per session, as each of two docks would count the same click; while none is in sight, clicks do not count."""

    changed = Signal()
    """The click or proposal of the case shown, or whether a click would count."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.advance = True
        """Whether a click goes on to the next case that nobody looked at."""
        self.proposals = Proposals(session)
        self._docks: set[object] = set()
        self._ours = False
        """The case that comes was asked for here: clicks count again when it is there."""
        self._skips = False
        """… as the next that nobody looked at: one that cannot be read is passed over."""
        self.centres = Centres(session, {action.key: partial(guarded(action.act), self) for action in ACTIONS})
        self._connect()

    @staticmethod
    def of(session: Session) -> Clicking:
        """That of a session, which is made where there is none."""
        found = session.findChild(Clicking)
        return cast("Clicking", found) if found is not None else Clicking(session)

    def _connect(self) -> None:
        session = self.session
        session.opened.connect(guarded(self._open))
        session.case_shown.connect(guarded(self._show))
        session.project_wanted.connect(guarded(partial(ask_project, session)))
        session.images.failed.connect(guarded(self._pass_over))
        session.painter.ended.connect(guarded(self._end_painting))
        self.centres.picked.connect(guarded(self._pick))
        self.centres.disturbed.connect(guarded(self._draw))
        self.centres.turned.connect(self.changed)
        self.proposals.changed.connect(guarded(self._draw))

    @property
    def proposal(self) -> Guess | None:
        """Of the case shown, while it has no click."""
        case, clicks = self.session.case, self.session.clicks
        if case is None or clicks is None or clicks[case] is not None:
            return None
        return self.proposals.guess(case)

    def appear(self, dock: object) -> None:
        """A dock came into sight."""
        self._docks.add(dock)
        if self.session.case is None:
            self._ours = True  # the one that is being read
        if self.session.painter.case is None:
            self.again()
        self.proposals.appear(True)

    def vanish(self, dock: object) -> None:
        self._docks.discard(dock)
        if not self._docks:
            self.centres.hide()
            self.proposals.appear(False)

    def again(self) -> None:
        """Let clicks count on the case shown, and end painting; what the user deleted of it comes back."""
        case = self.session.case
        if case is None or not self._docks:
            return
        self.session.painter.leave()
        if self.session.image is None:
            self._go(case)
        else:
            self._draw()
            self.centres.activate()

    def next(self) -> None:
        self._ours, self._skips = True, False
        self.session.step(1)

    def previous(self) -> None:
        self._ours, self._skips = True, False
        self.session.step(-1)

    def next_unclicked(self) -> None:
        """The next case that nobody looked at, from the one shown."""
        if self.session.case is not None:
            self._go_unclicked(self.session.case)

    def no_target(self) -> None:
        self._set(())

    def undo(self) -> None:
        self._move(back=True)

    def redo(self) -> None:
        self._move(back=False)

    def accept(self) -> None:
        """Take the proposed centre as the click."""
        if (guess := self.proposal) is not None:
            self._set(guess.point)

    def show(self, case: Case) -> None:
        """Go to a case that was chosen."""
        self._skips = False
        self._go(case)

    def _go(self, case: Case) -> None:
        if self.session.dataset is not None:
            self._ours = True
            self.session.show(self.session.dataset[case.name])

    def _go_unclicked(self, after: Case) -> None:
        clicks = self.session.clicks
        found = clicks.next_unclicked(after, self.session.images.unreadable) if clicks is not None else None
        if found is not None:
            self._skips = True
            self._go(found)

    def _pass_over(self, case: Case) -> None:
        if self._skips:
            self._go_unclicked(case)
        self.changed.emit()

    def _pick(self, point: Point, dragged: bool) -> None:
        self._set(point, stay=dragged)

    def _set(self, point: Point, *, stay: bool = False) -> None:
        clicks, case = self.session.clicks, self.session.case
        if clicks is None or case is None:
            return
        try:
            clicks.set(case, point)
        except Exception:
            self._draw()  # what is on the canvas is what is on the disk
            raise
        self.session.clicks_changed.emit()
        if self.advance and not stay:
            self._go_unclicked(case)
        if self.session.case is case:  # the next is not there yet, or there is none
            self._draw()

    def _move(self, *, back: bool) -> None:
        clicks = self.session.clicks
        if clicks is not None and (case := clicks.undo() if back else clicks.redo()) is not None:
            self.session.clicks_changed.emit()
            self.show(case)

    def _open(self) -> None:
        self._ours, self._skips = bool(self._docks), True

    def _show(self, case: Case) -> None:
        self._draw()
        if self._ours and self._docks:
            self.centres.activate()
        self._ours = False

    def _draw(self) -> None:
        """The click of the case shown, on the canvas."""
        case, clicks = self.session.case, self.session.clicks
        if self._docks and case is not None and clicks is not None and self.session.image is not None:
            self.centres.show(case, clicks[case], self.proposal)
        self.changed.emit()

    def _end_painting(self) -> None:
        if self._docks:
            self.centres.activate()


@dataclass(frozen=True, kw_only=True)
class Action:
    """What can be done with a case, by a button and by a key."""

    text: str
    key: str
    """As napari writes it."""
    act: Callable[[Clicking], None]
    tip: str

    @property
    def shortcut(self) -> str:
        """The key as a person writes it."""
        return self.key.replace("Control", "Ctrl").replace("-", "+")


ACTIONS = (
    Action(text="◀ Previous", key="B", act=Clicking.previous, tip="Go back to the case before"),
    Action(text="Next ▶", key="N", act=Clicking.next, tip="Go on to the next case"),
    Action(text="Next unclicked", key="U", act=Clicking.next_unclicked, tip="Go on to the next case without a click"),
    Action(text="No target visible", key="X", act=Clicking.no_target, tip="The target cannot be seen in this image"),
    Action(text="Undo", key="Control-Z", act=Clicking.undo, tip="Take the last click back"),
    Action(text="Redo", key="Control-Shift-Z", act=Clicking.redo, tip="Click again what was taken back"),
    Action(text="Accept proposal", key="Enter", act=Clicking.accept, tip="Take the proposed centre as the click"),
)
