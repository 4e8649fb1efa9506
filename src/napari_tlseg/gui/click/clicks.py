"""The clicks of an open folder: each on the disk before the next, with undo."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.files import locked
from napari_tlseg.data.tables import read_clicks, write_clicks

Point = tuple[float, ...]
"""(y, x) or (z, y, x), stored pixel indices; `()` says: looked at, no target visible."""
LATELY = 60.0
"""Seconds over which the pace is measured."""


@dataclass(frozen=True)
class Change:
    """What one click did."""

    case: Case
    before: Point | None
    after: Point | None


class Clicks:
    """Case → click. A change that cannot be written is not made: the table on the disk is the truth.

    Another window, or another program, may change the table meanwhile: what it wrote is taken over before the next
    change, so that nobody's clicks are lost.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._folder, self._cases, self._left_out = dataset.folder, dataset.cases, dataset.left_out
        self._table = dataset.folder / "clicks.csv"
        self._places = {case.name: place for place, case in enumerate(dataset)}
        self._points: dict[str, Point] = {}
        self._undo: list[Change] = []
        self._redo: list[Change] = []
        self._times: list[float] = []
        self._seen: tuple[int, ...] | None = None
        self._refresh()

    def __getitem__(self, case: Case) -> Point | None:
        """None where nobody looked yet."""
        return self._points.get(case.name)

    def __len__(self) -> int:
        """The cases that were looked at."""
        return len(self._points)

    def __iter__(self) -> Iterator[Case]:
        """The cases with a click."""
        return (case for case in self._cases if self._points.get(case.name))

    def set(self, case: Case, point: Point | None) -> None:
        """Click, or with `()` say that there is no target, or with None take it back; InputError or OSError where it
        cannot be written.
        """
        with self._alone():
            change = Change(case, self[case], point)
            self._write(case, point)
        self._undo.append(change)
        self._redo.clear()
        now = time.monotonic()
        self._times = [*(before for before in self._times if before > now - LATELY), now]

    def undo(self) -> Case | None:
        """Take the last change back; the case it was made in, or None where there is none."""
        return self._move(self._undo, self._redo, back=True)

    def redo(self) -> Case | None:
        return self._move(self._redo, self._undo, back=False)

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    @property
    def pace(self) -> float:
        """Clicks per minute, of late."""
        recent = [before for before in self._times if before > time.monotonic() - LATELY]
        return 60 * (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0

    def next_unclicked(self, after: Case, besides: Container[str] = ()) -> Case | None:
        """The nearest case behind this one, round the end, that nobody looked at; none of those named `besides`."""
        place = self._places[after.name]
        order = (*self._cases[place + 1 :], *self._cases[:place])
        return next((case for case in order if self[case] is None and case.name not in besides), None)

    def _move(self, origin: list[Change], target: list[Change], *, back: bool) -> Case | None:
        with self._alone():
            while origin:
                change = origin[-1]
                left, wanted = (change.after, change.before) if back else (change.before, change.after)
                if self[change.case] == left:
                    self._write(change.case, wanted)
                    target.append(origin.pop())
                    return change.case
                origin.pop()  # someone else has clicked there since
        return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """With what someone else wrote taken over, and nobody else writing until this is through."""
        with locked(self._table):
            self._refresh()
            yield

    def _write(self, case: Case, point: Point | None) -> None:
        points = {**self._points, case.name: point}
        kept = {name: value for name, value in points.items() if value is not None}
        table = {each.key: kept[each.name] for each in self._cases if each.name in kept}
        write_clicks(self._folder, table, self._left_out)
        self._points, self._seen = kept, self._stamp()

    def _refresh(self) -> None:
        """Take over what someone else wrote."""
        if (stamp := self._stamp()) != self._seen:
            self._points, self._seen = read_clicks(self._folder, self._cases, self._left_out), stamp

    def _stamp(self) -> tuple[int, ...] | None:
        """Changes whenever the table is replaced or written to."""
        try:
            found = self._table.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
