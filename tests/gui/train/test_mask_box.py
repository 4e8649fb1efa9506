"""Painting the masks that training learns from, out of the dock."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hands import Hands
from PIL import Image as Picture
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QToolButton

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.mask_box import MaskBox
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]


class Desk:
    """A mask box docked in a viewer, and a folder in it."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot, self.session = viewer, qtbot, Session.of(viewer)
        self.box = MaskBox(self.session)
        viewer.window.add_dock_widget(self.box, name="masks")

    def open(self, folder: Path) -> Desk:
        with self.qtbot.waitSignal(self.session.case_shown):
            self.session.open(folder)
        return self

    def press(self) -> None:
        painting = self.session.painter.case is not None
        self.box._paint.click()
        self.qtbot.waitUntil(lambda: (self.session.painter.case is not None) != painting)

    def stroke(self, *places: tuple[float, ...]) -> None:
        self.layer.brush_size = 5
        Hands(self.viewer).drag_pixels(self.layer, *places)

    def arrow(self, tip: str) -> None:
        found = next(each for each in self.box.findChildren(QToolButton) if each.toolTip().startswith(tip))
        self.qtbot.mouseClick(found, Qt.MouseButton.LeftButton)

    @property
    def shown(self) -> str:
        """What stands between the arrows."""
        return str(self.box.findChild(QLabel, "case").text())

    @property
    def layer(self) -> Any:
        return self.session.canvas.get("mask")


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot) -> Desk:
    return Desk(viewer, qtbot)


def test_a_mask_is_painted_saved_and_counted(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    folder, box = write_eyes(tmp_path / "eyes", count=3), desk.box
    shutil.rmtree(folder / "masks")
    assert not box._paint.isEnabled() and box._count.text().startswith("No masks yet")
    desk.open(folder)
    assert box._paint.isEnabled() and box._paint.text() == "Paint a mask of this case"
    assert not box._class.isVisible() and not box._painted.isVisible(), "one class, no slices"
    desk.press()
    assert box._paint.text() == "Done painting" and box._paint.isChecked()
    desk.stroke((10, 10), (10, 40))
    mask = folder / "masks" / "eye0.png"
    qtbot.waitUntil(lambda: mask.exists() and np.asarray(Picture.open(mask))[10, 12:38].all())
    qtbot.waitUntil(lambda: box._state.text() == "The mask of eye0 is saved.")
    qtbot.waitUntil(lambda: box._count.text() == "1 mask")
    assert box._state.isVisible()
    desk.press()
    assert box._paint.text() == "Correct the mask of this case" and not box._paint.isChecked()
    assert desk.layer is None


def test_another_case_ends_the_painting(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    desk.open(write_eyes(tmp_path / "eyes", count=3))
    desk.press()
    with qtbot.waitSignal(desk.session.case_shown):
        desk.session.step(1)
    assert desk.box._paint.text() == "Correct the mask of this case" and not desk.box._paint.isChecked()


def test_the_arrows_lead_through_the_cases_and_who_paints_goes_on_painting(
    desk: Desk, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = write_eyes(tmp_path / "eyes", count=3)
    shutil.rmtree(folder / "masks")
    assert desk.shown == "No case is shown"
    desk.open(folder)
    desk.arrow("Go on")
    qtbot.waitUntil(lambda: desk.shown == "eye1 (2 of 3)")
    assert desk.session.painter.case is None, "who only looks does not paint"
    desk.press()
    desk.stroke((10, 10), (10, 40))
    desk.arrow("Go back")
    qtbot.waitUntil(lambda: desk.session.painter.case is not None and desk.session.painter.case.name == "eye0")
    assert desk.shown == "eye0 (1 of 3)" and desk.box._paint.text() == "Done painting"
    qtbot.waitUntil((folder / "masks" / "eye1.png").exists)
    desk.press()
    desk.arrow("Go back")
    qtbot.waitUntil(lambda: desk.shown == "eye2 (3 of 3)")
    assert desk.session.painter.case is None and not (folder / "masks" / "eye0.png").exists()


def test_of_several_classes_one_is_painted(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    desk.open(write_chests(tmp_path / "chests", count=2))
    desk.press()
    combo = desk.box._class
    assert combo.isVisible() and [combo.itemText(index) for index in range(combo.count())] == ["lung", "infection"]
    assert combo.currentText() == "lung" and desk.layer.selected_label == 1
    qtbot.keyClick(combo, "i")
    assert combo.currentText() == "infection"
    combo.activated.emit(1)
    assert desk.layer.selected_label == 2
    desk.layer.selected_label = 1  # in napari's controls
    assert combo.currentText() == "lung"


def test_it_is_said_which_slices_are_fully_painted(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    folder, box = write_chests(tmp_path / "chests", count=2), desk.box
    shutil.rmtree(folder / "masks")
    desk.open(folder)
    desk.press()
    assert box._painted.isVisible() and box._slices.text() == "Fully painted slices: none"
    desk.session.show_plane(1)
    desk.stroke((1, 20, 20), (1, 20, 30))
    qtbot.waitUntil(lambda: box._slices.text() == "Fully painted slices: 1")
    assert box._painted.isChecked(), "what is painted in is ticked by itself"
    desk.session.show_plane(2)
    assert not box._painted.isChecked()
    box._painted.click()
    assert box._slices.text() == "Fully painted slices: 1–2"
    qtbot.waitUntil(lambda: (folder / "labelled.csv").exists() and len(read_dataset(folder)["chest0"].planes) == 2)
    box._painted.click()
    assert box._slices.text() == "Fully painted slices: 1"
