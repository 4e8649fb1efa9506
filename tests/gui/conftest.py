"""A napari window on a real screen, closed without a trace."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import segmentation_models_pytorch  # noqa: F401  it brings Triton, which with Mesa's LLVM crashes if a window came first
from lending import lend
from platformdirs import user_log_path

from napari_tlseg.engine.client import Client, Handle, State
from napari_tlseg.engine.messages import Request

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot


@pytest.fixture(autouse=True)
def log(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of one test, instead of the user's; macOS and Windows keep theirs elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    return user_log_path("napari-tlseg", appauthor=False) / "napari-tlseg.log"


@pytest.fixture
def qtbot(qtbot: QtBot) -> QtBot:
    """What is waited for may take a minute on a busy machine; no test is about the five seconds of pytest-qt."""
    for name in ("waitUntil", "waitSignal", "waitSignals", "waitExposed"):
        setattr(qtbot, name, partial(getattr(qtbot, name), timeout=60_000))
    return qtbot


@pytest.fixture
def viewer(qtbot: QtBot) -> Iterator[Viewer]:
    """A shown viewer, without the plugins' own windows; afterwards no widget, timer or object of ours is left."""
    from napari import Viewer
    from qtpy.compat import isalive
    from qtpy.QtCore import QObject, QTimer
    from qtpy.QtWidgets import QApplication

    gc.collect()
    gc.freeze()  # what is there by now, torch's million objects too: napari collects anew whenever a layer goes
    before = set(QApplication.allWidgets())
    viewer = Viewer(show=True)
    qtbot.waitExposed(viewer.window._qt_window)
    yield viewer
    if not hasattr(viewer.window, "_qt_window") or isalive(viewer.window._qt_window):
        viewer.close()
    else:  # closed by its user, as whose application would end now
        viewer._layer_slicer.shutdown()
        Viewer._instances.discard(viewer)
    del viewer
    gc.collect()
    qtbot.wait(50)
    assert not set(QApplication.allWidgets()) - before
    alive = [each for each in gc.get_objects() if issubclass(type(each), QObject) and isalive(each)]
    assert not [each for each in alive if isinstance(each, QTimer) and each.isActive()]
    assert not [each for each in alive if type(each).__module__.startswith("napari_tlseg")]


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
        self.state, self.pid, self.greeting = State.RUNNING, None, Future()
        self.submitted: list[tuple[Any, Callable[[Any], object]]] = []
        """Each job, and what to call with its events."""
        self.said: list[Request] = []
        """What the jobs were told; their ids count from 0."""

    def start(self) -> None: ...

    def close(self) -> None: ...

    def submit(self, job: Any, tell: Callable[[Any], object]) -> Handle:
        self.submitted.append((job, tell))
        return Handle(len(self.submitted) - 1, job, self.said.append, tell)


@pytest.fixture
def idle_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which no job is to run."""
    monkeypatch.setattr("napari_tlseg.gui.runner.Client", IdleClient)


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The one that is lent."""
    client = Client(tmp_path_factory.mktemp("worker") / "log")
    client.start()
    yield client
    client.close()


@pytest.fixture
def lent_worker(worker: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about what a worker does, and not about its start or its end."""
    monkeypatch.setattr("napari_tlseg.gui.runner.Client", lend(worker))
