"""The Train dock with a real worker process, and somebody who uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import notification_manager

from napari_tlseg.events import Event, Stepped
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.dock import TrainDock

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_tlseg.gui.runner import Task

START = 120_000
"""Milliseconds that a worker may take on a busy machine."""
TINY = {"size": 32, "batch": 2, "device": "cpu", "precision": "float32"}
LONG = {**TINY, "steps": 100_000}


class Desk:
    """What is waited for comes within two minutes."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot, self.session = viewer, qtbot, Session.of(viewer)
        self.dock = TrainDock(viewer)
        viewer.window.add_dock_widget(self.dock, name="Train")
        self.heard: list[Event] = []
        self.session.runner.started.connect(self._listen)
        self._told = len(notification_manager.records)

    def _listen(self, task: Task) -> None:
        task.heard.connect(self.heard.append)

    def wait(self, holds: Callable[[], bool], timeout: int = START) -> None:
        self.qtbot.waitUntil(holds, timeout=timeout)

    def open(self, folder: Path) -> Desk:
        self.session.open(folder)
        self.wait(lambda: self.session.folder == folder and self.session.case is not None)
        return self

    def train(self, **settings: Any) -> None:
        """Press Train, and wait for its first step."""
        self.dock.plan.form.setValue(settings)
        self.heard.clear()
        self.dock._train.click()
        self.wait(lambda: self.dock._train.isEnabled() != self.session.training)
        self.wait(lambda: bool(self.steps) or not self.session.training)

    def stop(self) -> None:
        self.dock.course.progress._stop.click()
        self.wait_until_over()

    def wait_until_over(self) -> None:
        self.wait(lambda: not self.session.training)

    @property
    def steps(self) -> list[Stepped]:
        """Of the training that was begun last."""
        return [event for event in self.heard if isinstance(event, Stepped)]

    @property
    def told(self) -> list[str]:
        """The notifications of this test."""
        return [each.message for each in notification_manager.records[self._told :]]


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Those that a run has recorded."""
    lines = (run / "events.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == kind]
