"""Pseudo-labels in a window: asked for, accepted and rejected by mouse and keys, and learned from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QTableWidget

from napari_tlseg.data.annotations import mask_path, read_mask
from napari_tlseg.data.pseudo import FOLDER, Pseudo, read_pseudo
from napari_tlseg.data.run import read_summary
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Finished
from napari_tlseg.gui.review.dock import ReviewDock
from napari_tlseg.gui.session import Session
from napari_tlseg.studies.teaching import Student
from tiny import write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, the last six without a mask, and a run."""
    root = write_eyes(tmp_path_factory.mktemp("data") / "eyes", 14)
    for number in range(8, 14):
        (root / "masks" / f"eye{number}.png").unlink()
    list(Finetune(data=root, out=root / "runs" / "plain", steps=3, size=32, batch=2, device="cpu").run())
    return root


class Desk:
    """The dock as its user sees it; the jobs that it submits run at once, in this process."""

    def __init__(self, viewer: Viewer, qtbot: QtBot, folder: Path) -> None:
        self.qtbot, self.viewer, self.folder = qtbot, viewer, folder
        self.dock = ReviewDock(viewer)
        self.session: Session = self.dock.session
        viewer.window.add_dock_widget(self.dock, name="Review")
        window = viewer.window._qt_window
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)  # else no key counts
        notification_manager.records.clear()
        with qtbot.waitSignal(self.session.case_shown, timeout=10_000):
            self.session.open(folder)

    def button(self, name: str) -> QPushButton:
        found = self.dock.findChild(QPushButton, name)
        assert found is not None
        return found

    def click(self, name: str) -> None:
        self.qtbot.waitUntil(lambda: self.button(name).isVisible() and self.button(name).isEnabled())
        self.qtbot.mouseClick(self.button(name), LEFT)

    def said(self) -> str:
        label = self.dock.findChild(QLabel, "pseudo")
        assert label is not None
        return str(label.text()) if label.isVisible() else ""

    def parts(self) -> dict[str, str]:
        table = self.dock.findChild(QTableWidget, "cases")
        return {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}

    def case(self) -> str:
        assert self.session.case is not None
        return self.session.case.name

    def run_job(self) -> Student:
        """What was submitted last, to its end."""
        client = self.session.runner._client
        self.qtbot.waitUntil(lambda: bool(self.session.runner.tasks))
        job, tell = client.submitted[-1]
        assert isinstance(job, Student)
        for event in job.run():
            tell(event)
        assert isinstance(event, Finished)
        self.qtbot.waitUntil(lambda: not self.session.runner.tasks)
        return job


def test_labels_are_asked_for_answered_and_learned_from(viewer: Viewer, qtbot: QtBot, trained: Path, tmp_path: Path):
    folder = shutil.copytree(trained, tmp_path / "eyes")
    desk = Desk(viewer, qtbot, folder)
    assert desk.said() == "" and not desk.button("accept").isVisible()
    desk.click("label")
    job = desk.run_job()
    assert (job.teacher, job.rounds, job.steps, job.size) == (folder / "runs" / "plain", 0, 3, 32)
    run = folder / "runs" / "plain-student"
    assert desk.session.run is not None and desk.session.run.path == run  # what came of it is looked at
    table = run / "rounds" / "0" / FOLDER
    names = sorted(Path(key).stem for key in read_pseudo(table))
    assert 2 < len(names) < 6 and all(desk.parts()[name] == "pseudo-label" for name in names)
    assert f"0 accepted, 0 rejected, {len(names)} without an answer" in desk.said()

    with qtbot.waitSignal(desk.dock.predictions.found, check_params_cb=lambda found: found.case.name == names[0]):
        desk.click("next_pseudo")
    layer = desk.session.canvas.get("found")
    assert desk.session.dataset is not None and layer is not None and layer.visible
    case = desk.session.dataset[names[0]]
    np.testing.assert_array_equal(layer.data[None], read_mask(case, 2, mask_path(case, table)))
    confidence = read_pseudo(table)[case.key].confidence
    assert f"confidence {confidence:.2f}" in desk.said()

    with qtbot.waitSignal(desk.session.case_shown):
        desk.click("accept")
    assert desk.case() == names[1]  # the next without an answer
    with qtbot.waitSignal(desk.session.case_shown):
        qtbot.keyClick(viewer.window._qt_window, Qt.Key.Key_R, Qt.KeyboardModifier.AltModifier)
    assert desk.case() == names[2]
    known = read_pseudo(table)
    assert known[case.key] == Pseudo(confidence=known[case.key].confidence, accepted=True)
    assert known[desk.session.dataset[names[1]].key].accepted is False
    assert (desk.parts()[names[0]], desk.parts()[names[1]]) == ("accepted", "rejected")
    assert f"1 accepted, 1 rejected, {len(names) - 2} without an answer" in desk.said()

    desk.session.show(desk.session.dataset[names[1]])
    qtbot.waitUntil(lambda: desk.case() == names[1])
    assert "Rejected: it will not be learned." in desk.said()
    desk.click("reject")  # once more takes it back, and the case stays
    assert read_pseudo(table)[desk.session.dataset[names[1]].key].accepted is None and desk.case() == names[1]
    desk.click("reject")

    desk.click("learn")
    assert desk.run_job().rounds == 1
    summary = read_summary(run)
    learned = {"images": len(names) - 1, "accepted": 1, "rejected": 1}
    assert {key: summary["pseudo"][key] for key in learned} == learned
    assert f"0 accepted, 0 rejected, {len(names)} without an answer" in desk.said()  # of the student's own labels
    assert not [each.message for each in notification_manager.records if each.severity.name == "ERROR"]
