"""Images of cases, read before they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.case import Case
from napari_tlseg.gui.background import Background
from napari_tlseg.gui.canvas.layers import LayerData, image_layer

ROOM = 1 << 30
"""Bytes of images that are kept."""
KEPT = 8
"""At most so many images."""


class Images(QObject):
    """The layer data of cases: those looked at last, and those that are expected next."""

    failed = Signal(object)
    """Case that was asked for and cannot be read; it was said why."""

    def __init__(self, reader: Background) -> None:
        super().__init__(reader)
        self._reader = reader
        self._read: OrderedDict[str, Future[LayerData]] = OrderedDict()
        self.unreadable: set[str] = set()
        """Names of the cases that could not be read when they were asked for."""

    def get(self, case: Case, done: Callable[[LayerData], object], failed: Callable[[Exception], object]) -> None:
        """Call `done` with the image, at once where it is there already; else it is the next to be read."""
        known = self._read.pop(case.key, None)
        if known is not None and _is_there(known):
            self._read[case.key] = known
            done(known.result())
            return

        def arrived(data: LayerData) -> None:
            self.unreadable.discard(case.name)
            done(data)

        def lost(error: Exception) -> None:
            self.unreadable.add(case.name)
            failed(error)
            self.failed.emit(case)

        self._expect_nothing()
        if known is not None:
            known.cancel()
        words = f"Reading {case.name} …"
        self._read[case.key] = self._reader.run(partial(_layer, case, known), arrived, lost, words=words)
        self._make_room()

    def expect(self, cases: Iterable[Case]) -> None:
        """Read these, as they will be asked for."""
        for case in cases:
            if case.key not in self._read:
                self._read[case.key] = self._reader.run(partial(_layer, case), _ignore, _ignore)
        self._make_room()

    def forget(self) -> None:
        """Drop everything, for another folder."""
        self._expect_nothing()
        self._read.clear()
        self.unreadable.clear()

    def _expect_nothing(self) -> None:
        """What waits to be read is not read."""
        for key in [key for key, future in self._read.items() if future.cancel()]:
            del self._read[key]

    def _make_room(self) -> None:
        def size(future: Future[LayerData]) -> int:
            return int(future.result()[0].nbytes) if _is_there(future) else 0

        while len(self._read) > KEPT or (len(self._read) > 2 and sum(map(size, self._read.values())) > ROOM):
            _, oldest = self._read.popitem(last=False)
            oldest.cancel()


def _layer(case: Case, known: Future[LayerData] | None = None) -> LayerData:
    """In the reading thread, which does one thing after the other: what was begun before is through.

    Of an image with channels that are no colours the first is shown.
    """
    data, about, kind = known.result() if known is not None and _is_there(known) else image_layer(case)
    if "channel_axis" in about:
        data = data[..., 0]
        about = {key: value for key, value in about.items() if key != "channel_axis"}
    return data, about, kind


def _is_there(future: Future[LayerData]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _ignore(_: object) -> None:
    """What could not be read ahead is said when it is asked for."""
