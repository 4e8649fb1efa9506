"""A napari window on a real screen, closed without a trace."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import segmentation_models_pytorch  # noqa: F401  it brings Triton, which with Mesa's LLVM crashes if a window came first

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot


@pytest.fixture
def viewer(qtbot: QtBot) -> Iterator[Viewer]:
    """A shown viewer, without the plugins' own windows; afterwards no window and no running timer is left of it."""
    from napari import Viewer
    from qtpy.compat import isalive
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    before = set(QApplication.topLevelWidgets())
    viewer = Viewer(show=True)
    qtbot.waitExposed(viewer.window._qt_window)
    yield viewer
    viewer.close()
    del viewer
    gc.collect()
    qtbot.wait(50)
    assert not set(QApplication.topLevelWidgets()) - before
    timers = [each for each in gc.get_objects() if issubclass(type(each), QTimer)]
    assert not [each for each in timers if isalive(each) and each.isActive()]


@pytest.fixture
def viewers(qtbot: QtBot) -> Iterator[Callable[[], Viewer]]:
    """Makes more viewers beside `viewer`."""
    from napari import Viewer

    made: list[Viewer] = []

    def make() -> Viewer:
        made.append(Viewer(show=True))
        qtbot.waitExposed(made[-1].window._qt_window)
        return made[-1]

    yield make
    for each in made:
        each.close()
    made.clear()


class IdleClient:
    """In place of a worker process, which imports torch for seconds: it takes jobs and does nothing with them."""

    def __init__(self, log: Path, died: Callable[[Any], object] | None = None) -> None:
        from napari_tlseg.engine.client import State

        self.state, self.pid, self.greeting = State.RUNNING, None, Future()
        self.submitted: list[tuple[Any, Callable[[Any], object]]] = []
        """Each job, and what to call with its events."""

    def start(self) -> None: ...

    def close(self) -> None: ...

    def submit(self, job: Any, tell: Callable[[Any], object]) -> None:
        self.submitted.append((job, tell))


@pytest.fixture
def idle_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which no job is to run."""
    monkeypatch.setattr("napari_tlseg.gui.runner.Client", IdleClient)
