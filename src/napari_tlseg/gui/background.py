"""Reading and writing beside the window: in one thread, one after the other, the results given in the window's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from qtpy.QtCore import QObject, QTimer, Signal

from napari_tlseg.gui.notices import complain, explained, guarded, logger

T = TypeVar("T")
MOMENT = 200
"""Milliseconds after which it is said what is waited for."""


class Background(QObject):
    """Does what it is given, in order."""

    waiting = Signal(str)
    """What is waited for, as soon as it takes more than a moment; empty when it is there."""
    _ready = Signal(object)

    def __init__(self, parent: QObject, name: str) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._ready.connect(self._deliver)  # queued: it is emitted in the other thread
        self._closed = False
        self._awaited: dict[Future[Any], str] = {}
        self._moment = QTimer(self, singleShot=True, interval=MOMENT)
        self._moment.timeout.connect(self._say)

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[Exception], object] | None = None,
        *,
        words: str = "",
    ) -> Future[T]:
        """Call `done` with what `work` returns, or `failed` with its error; by default the user is told.

        words: what is being done, where someone waits for it.
        """
        future = self._pool.submit(work)
        if words:
            self._awaited[future] = words
            self._moment.start()
        future.add_done_callback(lambda future: self._announce(future, done, failed))
        return future

    def close(self, *, drop: bool) -> None:
        """End the thread; with `drop` what waits is not begun. Nothing is delivered any more."""
        self._closed = True
        self._moment.stop()
        self._pool.shutdown(wait=True, cancel_futures=drop)

    def _announce(self, future: Future[Any], done: Callable[[Any], object], failed: Any) -> None:
        if not self._closed:
            self._ready.emit((future, done, failed))
        elif not future.cancelled() and (error := future.exception()) is not None:  # nobody is there to be told
            logger.error("while closing: %s", error)

    @guarded
    def _deliver(self, message: tuple[Future[Any], Callable[[Any], object], Any]) -> None:
        future, done, failed = message
        if self._awaited.pop(future, None) is not None and not self._moment.isActive():
            self._say()
        if self._closed or future.cancelled():
            return
        error = future.exception()
        if error is None:
            done(future.result())
        elif isinstance(error, Exception):
            (failed or (lambda error: complain(explained(error))))(error)

    def _say(self) -> None:
        """Of several that are waited for the last one."""
        self.waiting.emit(next(reversed(self._awaited.values()), ""))
