"""Reading and writing beside the window: in one thread, one after the other, the results given in the window's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from qtpy.QtCore import QObject, Signal

from napari_tlseg.gui.notices import complain, explained, guarded, logger

T = TypeVar("T")


class Background(QObject):
    """Does what it is given, in order."""

    _ready = Signal(object)

    def __init__(self, parent: QObject, name: str) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._ready.connect(self._deliver)  # queued: it is emitted in the other thread
        self._closed = False

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> Future[T]:
        """Call `done` with what `work` returns, or `failed` with its error; by default the user is told."""
        future = self._pool.submit(work)
        future.add_done_callback(lambda future: self._announce(future, done, failed))
        return future

    def close(self, *, drop: bool) -> None:
        """End the thread; with `drop` what waits is not begun. Nothing is delivered any more."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=drop)

    def _announce(self, future: Future[Any], done: Callable[[Any], object], failed: Any) -> None:
        if future.cancelled():
            return
        if not self._closed:
            self._ready.emit((future, done, failed))
        elif (error := future.exception()) is not None:  # nobody is there any more to be told
            logger.error("while closing: %s", error)

    @guarded
    def _deliver(self, message: tuple[Future[Any], Callable[[Any], object], Any]) -> None:
        future, done, failed = message
        if self._closed:
            return
        error = future.exception()
        if error is None:
            done(future.result())
        elif isinstance(error, Exception):
            (failed or (lambda error: complain(explained(error))))(error)
