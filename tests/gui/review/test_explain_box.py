"""What a run looked at, in the window: with a real worker, over a photograph without a mask and a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_tlseg import journey
from napari_tlseg.events import Attributed
from napari_tlseg.gui.review.dock import ReviewDock
from napari_tlseg.gui.review.explain_box import ROLE
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow, pytest.mark.usefixtures("lent_worker")]
QUICK = {"steps": 20, "size": 32, "batch": 4, "device": "cpu", "precision": "float32"}
BARE = "eye7"
SLOW = 120_000


class Desk:
    def __init__(self, viewer: Viewer, qtbot: QtBot, folder: Path) -> None:
        viewer.window._qt_window.resize(1200, 980)
        self.viewer, self.dock, self.qtbot = viewer, ReviewDock(viewer), qtbot
        self.session, self.box = self.dock.session, self.dock.explain
        self.heard: list[Attributed] = []
        viewer.window.add_dock_widget(self.dock, name="Review")
        notification_manager.records.clear()
        with qtbot.waitSignal(self.session.case_shown, timeout=SLOW):
            self.session.open(folder)
        self.session.runner.started.connect(lambda task: task.heard.connect(self._hear))

    def _hear(self, event: object) -> None:
        if isinstance(event, Attributed):
            self.heard.append(event)

    def look(self, case: str) -> None:
        self.session.show(self.session.dataset[case])
        self.wait(lambda: self.session.case.name == case)

    def ask(self) -> None:
        self.wait(lambda: self.box._ask.isVisible() and self.box._ask.isEnabled())
        QTest.mouseClick(self.box._ask, Qt.MouseButton.LeftButton, pos=QPoint(12, 8))
        assert not self.box._ask.isEnabled() and self.box.progress.isVisible()

    def wait(self, holds: object) -> None:
        self.qtbot.waitUntil(holds, timeout=SLOW)

    def answered(self) -> Image:
        self.wait(lambda: self.box._ask.isEnabled())
        return self.session.canvas.get(ROLE)


def test_a_photograph_without_a_mask_is_asked_about(viewer: Viewer, qtbot: QtBot, tmp_path: Path) -> None:
    eyes = write_eyes(tmp_path / "eyes")
    (eyes / "masks" / f"{BARE}.png").unlink()
    journey.finetune(eyes, eyes / "runs" / "first", **QUICK)
    own = viewer.add_image(np.zeros((5, 5)), name="mine")
    desk = Desk(viewer, qtbot, eyes)
    desk.look(BARE)
    desk.ask()
    layer = desk.answered()
    (heard,) = desk.heard
    np.testing.assert_array_equal(layer.data, heard.values)
    assert layer.data.shape == desk.session.image.data.shape == (48, 64) and np.abs(layer.data).max() > 0
    np.testing.assert_allclose(layer.data_to_world((3, 5)), desk.session.image.data_to_world((3, 5)))
    low, high = layer.contrast_limits
    assert low == -high < 0 and layer.colormap.map(np.array([0.5]))[0, 3] == pytest.approx(0, abs=0.01)
    assert layer.name == f"speaks for target: {BARE}"
    assert own in viewer.layers and (own.data == 0).all() and own.name == "mine"
    table = desk.box._changes
    assert table.isVisible() and table.rowCount() == len(heard.changes) >= 4
    assert float(table.item(0, 1).text()) == pytest.approx(heard.changes[0]["after"], abs=0.005)
    assert desk.box._words.text().startswith(f"In {BARE} ")
    desk.look("eye1")
    assert desk.session.canvas.get(ROLE) is None and not table.isVisible() and not desk.box._words.isVisible()
    desk.ask()
    QTest.mouseClick(desk.box.progress._stop, Qt.MouseButton.LeftButton)
    desk.answered()
    desk.dock.hide()
    assert desk.session.canvas.get(ROLE) is None
    assert not [record for record in notification_manager.records if record.severity.name == "ERROR"]


def test_of_a_volume_the_slice_that_is_seen_and_each_class(viewer: Viewer, qtbot: QtBot, tmp_path: Path) -> None:
    chests = write_chests(tmp_path / "chests")
    journey.finetune(chests, chests / "runs" / "first", **QUICK)
    desk = Desk(viewer, qtbot, chests)
    desk.look("chest1")
    desk.session.show_plane(2)
    desk.ask()
    layer, image = desk.answered(), desk.session.image
    assert [event.answer for event in desk.heard] == ["lung", "infection"] and {e.plane for e in desk.heard} == {2}
    assert layer.data.shape == (1, *image.data.shape[1:]) and layer.name == "speaks for lung: chest1"
    np.testing.assert_allclose(layer.data_to_world((0, 3, 5)), image.data_to_world((2, 3, 5)))
    desk.box._answer.setFocus()
    QTest.keyClick(desk.box._answer, Qt.Key.Key_Down)
    assert desk.session.canvas.get(ROLE).name == "speaks for infection: chest1"
    np.testing.assert_array_equal(desk.session.canvas.get(ROLE).data[0], desk.heard[1].values)
