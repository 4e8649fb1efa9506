"""Clicking targets in a napari window, by mouse and keys; what counts is on the disk and on the screen."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hands import Hands
from napari.layers import Points
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QFileDialog, QLabel, QListWidget, QPushButton, QTabWidget, QWidget

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.data.tables import write_points
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.events import Finished
from napari_tlseg.gui.canvas import images
from napari_tlseg.gui.canvas.layers import case_of
from napari_tlseg.gui.click.dock import ClickDock
from napari_tlseg.gui.session import Session
from tiny import disc, write_chests, write_eyes, write_nifti

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


class User:
    """Somebody at the dock."""

    def __init__(self, viewer: Viewer, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
        self.viewer, self.qtbot, self._patch = viewer, qtbot, monkeypatch
        self.hands = Hands(viewer)
        self.dock = ClickDock(viewer)
        self.docked = viewer.window.add_dock_widget(self.dock, area="right")
        self._told = len(notification_manager.records)

    def open(self, folder: Path) -> None:
        self.choose(folder, "Open folder …")
        self.qtbot.waitUntil(lambda: self.shown is not None and self.folder == folder)

    def choose(self, folder: Path, button: str) -> None:
        """A button that asks for a folder."""
        self._patch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
        self.push(button)

    def push(self, text: str) -> None:
        self.qtbot.mouseClick(self.button(text), Qt.MouseButton.LeftButton)

    def button(self, text: str) -> QPushButton:
        return next(each for each in self.dock.findChildren(QPushButton) if each.text() == text)

    def click(self, *place: float) -> None:
        self.hands.click(self.image, *place)

    def sees(self, name: str) -> None:
        self.qtbot.waitUntil(lambda: self.shown == name)

    @property
    def folder(self) -> Path | None:
        return Session.of(self.viewer).folder

    @property
    def image(self) -> Any:
        """Our layer; it is beneath the others of ours."""
        return next(layer for layer in self.viewer.layers if case_of(layer) is not None)

    @property
    def shown(self) -> str | None:
        """The name of the image on the canvas."""
        return next((layer.name for layer in self.viewer.layers if case_of(layer) is not None), None)

    @property
    def centre(self) -> Points:
        return self.viewer.layers["target centre"]

    @property
    def table(self) -> dict[str, tuple[float | None, ...]]:
        with (self.folder / "clicks.csv").open(newline="") as text:
            rows = list(csv.reader(text))[1:]
        return {name: tuple(float(each) if each else None for each in place) for name, *place in rows}

    @property
    def told(self) -> list[str]:
        """Notifications since the last look."""
        new, self._told = notification_manager.records[self._told :], len(notification_manager.records)
        return [each.message for each in new]

    def label(self, name: str) -> str:
        return str(self.dock.findChild(QLabel, name).text())

    @property
    def row(self) -> str:
        """The one that is chosen in the list."""
        return str(self.dock.findChild(QListWidget).currentItem().text())


@pytest.fixture
def user(viewer: Viewer, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    yield User(viewer, qtbot, monkeypatch)


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Four photographs, the first with a mask, none with a click."""
    folder = write_eyes(tmp_path / "eyes", count=4)
    (folder / "clicks.csv").unlink()
    for number in (1, 2, 3):
        (folder / "masks" / f"eye{number}.png").unlink()
    return folder


def near(*expected: float | None) -> Any:
    """Within half a pixel: the mouse is where a pixel of the screen is."""
    return tuple(None if each is None else pytest.approx(each, abs=0.5) for each in expected)


def test_one_click_per_image_leads_through_a_folder(user: User, eyes: Path) -> None:
    assert "Open images" in user.label("count")
    user.open(eyes)
    assert user.label("count") == "0 of 4 looked at · saved" and user.row == "○ eye0  ▣"
    for number in range(4):
        _, _, centre = disc(number)
        user.sees(f"eye{number}")
        assert user.row.startswith(f"○ eye{number}")
        user.click(*centre)
        assert user.table == {f"eye{n}.png": near(*disc(n)[2]) for n in range(number + 1)}, "on the disk at once"
        assert user.label("count").startswith(f"{number + 1} of 4 looked at")
    assert "per minute · saved" in user.label("count") and "All images are looked at" in user.label("state")
    assert user.shown == "eye3" and user.row == "● eye3"
    np.testing.assert_allclose(user.centre.data, [disc(3)[2]], atol=0.5)
    assert user.told == []


def test_it_stays_where_that_is_wanted(user: User, eyes: Path) -> None:
    user.open(eyes)
    user.qtbot.mouseClick(user.dock.findChild(QCheckBox), Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    user.click(10, 20)
    user.click(30, 40)
    assert user.shown == "eye0" and user.table == {"eye0.png": near(30, 40)}
    np.testing.assert_allclose(user.centre.data, [[30, 40]], atol=0.5)


def test_keys(user: User, eyes: Path) -> None:
    user.open(eyes)
    press = user.hands.press
    user.click(10, 20)
    user.sees("eye1")
    press(Qt.Key.Key_N)
    user.sees("eye2")
    press(Qt.Key.Key_B)
    user.sees("eye1")
    press(Qt.Key.Key_B)
    press(Qt.Key.Key_B)
    user.sees("eye3")
    press(Qt.Key.Key_X)
    assert user.table == {"eye0.png": near(10, 20), "eye3.png": (None, None)}
    assert "eye3.png,,\n" in (eyes / "clicks.csv").read_text()
    user.sees("eye1")
    press(Qt.Key.Key_Z, CTRL)
    user.sees("eye3")
    assert user.table == {"eye0.png": near(10, 20)} and user.row == "○ eye3"
    press(Qt.Key.Key_Z, CTRL)
    user.sees("eye0")
    assert user.table == {} and len(user.centre.data) == 0
    press(Qt.Key.Key_Z, CTRL | SHIFT)
    assert user.table == {"eye0.png": near(10, 20)} and len(user.centre.data) == 1
    press(Qt.Key.Key_U)
    user.sees("eye1")
    assert user.told == []


def test_buttons_do_what_keys_do_and_leave_the_keyboard_to_the_canvas(user: User, eyes: Path) -> None:
    user.open(eyes)
    assert not user.button("Undo").isEnabled() and not user.button("Redo").isEnabled()
    user.push("Next ▶")
    user.sees("eye1")
    user.push("No target visible")
    user.sees("eye2")
    user.push("◀ Previous")
    user.sees("eye1")
    assert user.row == "∅ eye1"
    user.hands.press(Qt.Key.Key_U)
    user.sees("eye2")
    user.push("Undo")
    user.sees("eye1")
    user.push("Redo")
    assert user.table == {"eye1.png": (None, None)}
    user.push("Next unclicked")
    user.sees("eye2")
    items = user.dock.findChild(QListWidget)
    place = items.visualItemRect(items.item(3)).center()
    user.qtbot.mouseClick(items.viewport(), Qt.MouseButton.LeftButton, pos=place)
    user.sees("eye3")
    user.hands.press(Qt.Key.Key_N)
    user.sees("eye0")


def test_a_centre_is_dragged(user: User, eyes: Path) -> None:
    user.open(eyes)
    user.click(10, 20)
    user.hands.press(Qt.Key.Key_B)
    user.sees("eye0")
    user.hands.drag_pixels(user.image, (10, 20), (15, 30), (25, 45))
    assert user.table == {"eye0.png": near(25, 45)} and user.shown == "eye0", "a correction stays"
    np.testing.assert_allclose(user.centre.data, [[25, 45]], atol=0.5)
    user.hands.press(Qt.Key.Key_Z, CTRL)
    assert user.table == {"eye0.png": near(10, 20)}
    user.hands.drag(user.hands.where(user.image, 10, 20), QPointF(-50, -50))
    assert user.table == {"eye0.png": near(10, 20)}, "not out of the image"
    np.testing.assert_allclose(user.centre.data, [[10, 20]], atol=0.5)


def test_a_swift_drag_is_no_click(user: User, eyes: Path) -> None:
    user.open(eyes)
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    user.hands.send(QEvent.Type.MouseButtonPress, user.hands.where(user.image, 10, 20), left, left)
    user.hands.send(QEvent.Type.MouseButtonRelease, user.hands.where(user.image, 30, 40), left, none)
    assert not (eyes / "clicks.csv").exists()


def test_a_key_in_the_midst_of_a_drag_does_not_drag_the_next_centre(user: User, eyes: Path) -> None:
    write_clicks(eyes, {"eye0.png": (10.0, 20.0), "eye1.png": (12.0, 22.0)})
    user.open(eyes)
    user.push("Next ▶")
    user.push("Next ▶")
    user.sees("eye0")
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    user.hands.send(QEvent.Type.MouseButtonPress, user.hands.where(user.image, 10, 20), left, left)
    user.qtbot.wait(20)
    user.hands.send(QEvent.Type.MouseMove, user.hands.where(user.image, 20, 30), none, left)
    user.hands.press(Qt.Key.Key_N)
    user.sees("eye1")
    user.hands.send(QEvent.Type.MouseButtonRelease, user.hands.where(user.image, 30, 40), left, none)
    assert user.table == {"eye0.png": (10, 20), "eye1.png": (12, 22)}
    np.testing.assert_array_equal(user.centre.data, [[12, 22]])


def test_a_drag_elsewhere_moves_the_view_and_the_wheel_zooms(user: User, eyes: Path) -> None:
    user.open(eyes)
    camera = Session.of(user.viewer).canvas.camera
    centre, zoom = np.array(camera.center), camera.zoom
    user.hands.drag_pixels(user.image, (20, 20), (22, 25), (25, 30), (30, 40))
    assert np.abs(np.array(camera.center) - centre).max() > 5 and camera.mouse_pan
    place = user.hands.where(user.image, 20, 20)
    wheel = QWheelEvent(
        *(place, user.hands.canvas.mapToGlobal(place), QPoint(), QPoint(0, 120)),
        *(Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False),
    )
    QApplication.sendEvent(user.hands.canvas, wheel)
    user.qtbot.waitUntil(lambda: camera.zoom > zoom)
    assert not (eyes / "clicks.csv").exists() and user.shown == "eye0"


def test_a_click_beside_the_image_does_nothing(user: User, eyes: Path) -> None:
    user.open(eyes)
    Session.of(user.viewer).canvas.camera.zoom /= 2
    for place in ((-3, 20), (20, -3), (50, 20), (20, 70)):
        user.click(*place)
    assert not (eyes / "clicks.csv").exists() and user.shown == "eye0" and user.told == []


def test_other_buttons_and_held_keys_do_not_click(user: User, eyes: Path) -> None:
    user.open(eyes)
    place, right = user.hands.where(user.image, 20, 20), Qt.MouseButton.RightButton
    user.hands.send(QEvent.Type.MouseButtonPress, place, right, right)
    user.hands.send(QEvent.Type.MouseButtonRelease, place, right, Qt.MouseButton.NoButton)
    assert not (eyes / "clicks.csv").exists()


def test_who_clicks_twice_clicks_once_and_is_not_zoomed_into_the_next_image(user: User, eyes: Path) -> None:
    user.open(eyes)
    zoom = Session.of(user.viewer).canvas.camera.zoom
    user.hands.double_click(user.image, 20, 30)
    assert user.table == {"eye0.png": near(20, 30)} and user.shown == "eye1"
    assert Session.of(user.viewer).canvas.camera.zoom == zoom
    user.viewer.layers.selection.active = user.image
    user.hands.double_click(user.image, 20, 30)
    assert Session.of(user.viewer).canvas.camera.zoom == 2 * zoom, "napari's own way is back"


def test_reopening_restores_all(user: User, eyes: Path, tmp_path: Path) -> None:
    user.open(eyes)
    user.click(10, 20)
    user.sees("eye1")
    user.hands.press(Qt.Key.Key_X)
    other = write_eyes(tmp_path / "other", count=2)
    user.open(other)
    assert user.label("count") == "2 of 2 looked at · saved"
    user.open(eyes)
    assert user.label("count") == "2 of 4 looked at · saved" and user.shown == "eye2", "the first to be clicked"
    user.hands.press(Qt.Key.Key_B)
    user.hands.press(Qt.Key.Key_B)
    user.sees("eye0")
    np.testing.assert_allclose(user.centre.data, [[10, 20]], atol=0.5)


def test_a_plain_folder_of_images(user: User, eyes: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(eyes / "images", tmp_path / "plain")
    user.open(plain)
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20)} and user.folder == plain
    assert "no patients.csv" in " ".join(each.text() for each in user.dock.findChildren(QLabel))


def test_a_volume_gets_the_stored_z(user: User, tmp_path: Path) -> None:
    folder = write_chests(tmp_path / "chests", count=2)
    turned = np.array([[0, 0, -2, 50], [1.5, 0.2, 0, -20], [0, -0.7, 0, 300], [0, 0, 0, 1]], float)
    write_nifti(folder / "images" / "chest1.nii.gz", np.zeros((30, 40, 50), np.int16) - 900, turned)
    for name in ("masks", "rois"):
        (folder / name / "chest1.nii.gz").unlink()
    user.open(folder)
    for name, plane, y, x in (("chest0", 2, 11, 40), ("chest1", 33, 7, 21)):
        user.sees(name)
        session, geometry = Session.of(user.viewer), read_dataset(folder)[name].geometry
        session.show_plane(plane)
        user.click(plane, y, x)
        z, row, column = user.table[f"{name}.nii.gz"]
        assert geometry.point_to_planes((z, row, column)) == (plane, near(y)[0], near(x)[0])
    found = read_dataset(folder)["chest1"].click
    assert found == near(21, 40 - 1 - 33, 30 - 1 - 7), "k runs to the left, j downwards, i forwards"
    user.hands.press(Qt.Key.Key_B)
    user.sees("chest0")
    assert Session.of(user.viewer).plane() == 2, "it is shown in the slice of its click"


def test_the_next_images_were_read_ahead(user: User, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = images.image_layer
    monkeypatch.setattr(images, "image_layer", lambda case: read.append(case.name) or original(case))
    user.open(eyes)
    user.qtbot.waitUntil(lambda: sorted(read) == ["eye0", "eye1", "eye2", "eye3"])
    user.qtbot.wait(100)
    for number in range(1, 4):
        user.click(20, 20)
        assert user.shown == f"eye{number}", "at once, without an event loop between"
    assert len(read) == 4, "none was read again"


def test_what_takes_long_to_be_read_is_said(user: User, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    whole = images.image_layer

    def slow(case: Any) -> Any:
        free.wait(60)
        return whole(case)

    monkeypatch.setattr(images, "image_layer", slow)
    user.choose(eyes, "Open folder …")
    user.qtbot.waitUntil(lambda: user.label("state") == "Reading eye0 …")
    assert user.dock.findChild(QLabel, "state").isVisible()
    free.set()
    user.sees("eye0")
    user.qtbot.waitUntil(lambda: user.label("state").startswith("Click the centre"))


def test_a_click_that_cannot_be_saved_is_not_taken(user: User, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user.open(eyes)
    user.click(10, 20)
    user.sees("eye1")
    faults = iter(
        [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "Permission denied")]
    )

    def fail(source: str, target: Path) -> None:
        fault = next(faults)
        raise type(fault)(fault.errno, fault.strerror, str(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        user.click(30, 40)
        (sentence,) = user.told
        assert "clicks.csv: no space left on device" in sentence and "\n" not in sentence
        assert user.shown == "eye1" and len(user.centre.data) == 0 and user.row == "○ eye1"
        user.hands.press(Qt.Key.Key_B)
        user.hands.drag_pixels(user.image, (10, 20), (25, 45), (25, 45))
        (sentence,) = user.told
        assert "permission denied" in sentence
        np.testing.assert_allclose(user.centre.data, [[10, 20]], atol=0.5)
    assert user.table == {"eye0.png": near(10, 20)}
    user.hands.press(Qt.Key.Key_N)
    user.click(30, 40)
    assert user.table == {"eye0.png": near(10, 20), "eye1.png": near(30, 40)} and user.told == []


def test_what_another_program_clicked_is_kept_and_shown(user: User, eyes: Path) -> None:
    user.open(eyes)
    write_clicks(eyes, {"eye2.png": (5.0, 6.0)})
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20), "eye2.png": (5, 6)}
    user.sees("eye1")
    assert user.label("count").startswith("2 of 4")
    user.click(11, 21)
    user.sees("eye3")


def test_an_image_that_cannot_be_read_is_passed_over(user: User, eyes: Path) -> None:
    user.open(eyes)
    content = (eyes / "images" / "eye2.png").read_bytes()
    user.click(10, 20)
    user.sees("eye1")
    for name in ("eye1", "eye2"):  # eye1 is on the canvas, eye2 was read ahead perhaps: the folder is opened anew
        (eyes / "images" / f"{name}.png").write_bytes(content[:200])
    user.open(write_eyes(eyes.parent / "other", count=2))
    user.open(eyes)
    user.sees("eye3")
    first, second = user.told
    assert "eye1.png" in first and "eye2.png" in second
    user.click(30, 40)
    assert user.table == {"eye0.png": near(10, 20), "eye3.png": near(30, 40)}
    user.hands.press(Qt.Key.Key_U)
    assert user.shown == "eye3" and user.told == [] and "✕ eye1" in user.dock.findChild(QListWidget).item(1).text()
    (eyes / "images" / "eye2.png").write_bytes(content)
    user.hands.press(Qt.Key.Key_B)
    user.sees("eye2")
    assert user.dock.findChild(QListWidget).item(2).text() == "○ eye2"


def test_images_that_cannot_be_opened_are_named_and_left_out(user: User, eyes: Path) -> None:
    write_clicks(eyes, {"eye1.png": (12.0, 22.0)})
    content = (eyes / "images" / "eye1.png").read_bytes()
    (eyes / "images" / "eye1.png").write_bytes(b"")
    user.open(eyes)
    [said] = user.told
    assert said.startswith(f"Left out: {eyes / 'images' / 'eye1.png'}: is neither PNG nor JPEG inside; export it again")
    assert [case.name for case in user.dock.session.dataset or ()] == ["eye0", "eye2", "eye3"]
    assert said in user.dock._notes.text()
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20), "eye1.png": near(12, 22)}, "what was clicked in it stays"
    job = user.dock.session.runner.submit(Locate(data=eyes, model=eyes / "m", out=eyes / "o.csv")).job
    assert job.unreadable == "skip", "a job reads the folder as the window did"

    (eyes / "images" / "eye1.png").write_bytes(content)
    (eyes / "images" / "eye2.png").write_bytes(b"no picture")
    (eyes / "images" / "eye3.png").write_bytes(b"")
    user.open(write_eyes(eyes.parent / "other", count=2))
    user.open(eyes)
    [said] = user.told
    assert "eye2.png" in said and "1 more are left out" in said
    assert [case.name for case in user.dock.session.dataset or ()] == ["eye0", "eye1"]
    assert user.dock.session.clicks is not None and len(user.dock.session.clicks) == 2


def test_a_project_of_a_folder_with_such_an_image_leaves_it_out_too(user: User, eyes: Path, tmp_path: Path) -> None:
    write_clicks(eyes, {"eye0.png": (12.0, 22.0)})
    (eyes / "images" / "eye0.png").write_bytes(b"")
    eyes.chmod(0o555)
    answers = [str(eyes), str(tmp_path / "project")]
    user._patch.setattr(QFileDialog, "getExistingDirectory", lambda *_: answers.pop(0))
    user.push("Open folder …")
    user.sees("eye1")
    assert user.folder == tmp_path / "project" and "eye0.png" in user.told[-1]
    user.click(10, 20)
    assert user.table == {"eye1.png": near(10, 20), "eye0.png": near(12, 22)}


@pytest.mark.parametrize("deleted", ["target centre", "eye0", "both"])
def test_layers_of_ours_that_the_user_deletes_come_back(user: User, eyes: Path, deleted: str) -> None:
    user.open(eyes)
    for name in ("target centre", "eye0") if deleted == "both" else (deleted,):
        user.viewer.layers.remove(name)
    user.viewer.layers.selection.active = None
    assert user.dock._again.isVisible()
    user.push("Click here again")
    user.sees("eye0")
    assert [layer.name for layer in user.viewer.layers] == [
        "eye0",
        "target centre",
    ] and not user.dock._again.isVisible()
    user.click(10, 20)
    user.sees("eye1")
    user.viewer.layers.remove("eye1")
    user.hands.press(Qt.Key.Key_X)
    user.sees("eye2")
    assert [layer.name for layer in user.viewer.layers] == ["eye2", "target centre"]
    assert user.table == {"eye0.png": near(10, 20), "eye1.png": (None, None)} and user.told == []


def test_naparis_own_tools_for_points_cannot_part_the_canvas_from_the_disk(user: User, eyes: Path) -> None:
    user.open(eyes)
    user.centre.mode = "add"
    user.click(10, 20)
    user.sees("eye1")
    assert user.table == {"eye0.png": near(10, 20)} and len(user.centre.data) == 0
    user.hands.press(Qt.Key.Key_B)
    user.hands.press(Qt.Key.Key_A)
    user.hands.press(Qt.Key.Key_Delete)
    np.testing.assert_allclose(user.centre.data, [[10, 20]], atol=0.5)
    assert user.table == {"eye0.png": near(10, 20)}


def test_layers_of_the_users_stay_as_they_are(user: User, eyes: Path) -> None:
    viewer = user.viewer
    mine = [
        viewer.add_image(np.random.default_rng(0).random((30, 40)), name="eye0"),
        viewer.add_points([[1, 2]], name="target centre"),
        viewer.add_labels(np.ones((30, 40), int), name="mask"),
    ]
    before = [np.array(layer.data) for layer in mine]
    session = Session.of(viewer)
    session.open(eyes)
    user.qtbot.waitUntil(lambda: session.case is not None)
    for _ in range(2):
        user.hands.click(session.image, 20, 20)
    session.open(write_eyes(eyes.parent / "other", count=2))
    user.qtbot.waitUntil(lambda: session.folder == eyes.parent / "other" and session.case is not None)
    assert [layer for layer in viewer.layers if layer in mine] == mine
    for layer, data in zip(mine, before, strict=True):
        np.testing.assert_array_equal(layer.data, data)
        assert layer.visible


def test_while_the_user_works_on_a_layer_of_their_own_clicks_do_not_count(user: User, eyes: Path) -> None:
    user.open(eyes)
    mine = user.viewer.add_points(ndim=2)
    mine.mode = "add"
    user.click(10, 20)
    assert len(mine.data) == 1 and not (eyes / "clicks.csv").exists()
    assert "do not count" in user.label("state")
    user.push("Click here again")
    user.click(10, 20)
    assert len(mine.data) == 1 and user.table == {"eye0.png": near(10, 20)}


def test_clicks_count_only_while_the_dock_is_in_sight(user: User, eyes: Path) -> None:
    tabs = QTabWidget()
    user.viewer.window.remove_dock_widget(user.docked)
    user.dock.deleteLater()
    user.dock = ClickDock(user.viewer)
    tabs.addTab(user.dock, "1 Click")
    tabs.addTab(QWidget(), "3 Review")
    user.viewer.window.add_dock_widget(tabs, area="right")
    user.open(eyes)
    tabs.setCurrentIndex(1)
    assert [layer.name for layer in user.viewer.layers] == ["eye0"]
    user.click(10, 20)
    Session.of(user.viewer).step(1)
    user.sees("eye1")
    user.click(10, 20)
    assert not (eyes / "clicks.csv").exists()
    tabs.setCurrentIndex(0)
    user.click(10, 20)
    assert user.table == {"eye1.png": near(10, 20)}


def test_clicks_count_in_a_folder_that_was_opened_before_the_dock_was_in_sight(user: User, eyes: Path) -> None:
    user.docked.hide()
    user.dock.session.opened.connect(user.docked.show)  # after all that hear of it, before there is an image
    user.dock.session.open(eyes)
    user.sees("eye0")
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20)}


def test_two_docks_count_a_click_once(user: User, eyes: Path) -> None:
    other = ClickDock(user.viewer)
    docked = user.viewer.window.add_dock_widget(other, area="left")
    user.open(eyes)
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20)} and user.shown == "eye1"
    assert other.findChild(QLabel, "count").text() == user.label("count")
    user.viewer.window.remove_dock_widget(docked)
    user.qtbot.wait(50)
    user.click(11, 21)
    assert len(user.table) == 2 and user.told == []


def test_proposals_are_asked_for_shown_and_accepted(user: User, eyes: Path) -> None:
    (eyes / "sources").mkdir()
    user.open(eyes)
    assert not user.button("Propose centres").isEnabled()
    (eyes / "sources" / "clicks.safetensors").write_bytes(b"")
    Session.of(user.viewer).runs_changed.emit()
    user.push("Propose centres")
    ((job, tell),) = Session.of(user.viewer).runner._client.submitted
    assert isinstance(job, Locate) and job.model.name == "clicks.safetensors" and job.out.parent == eyes / "sources"
    assert not user.button("Propose centres").isEnabled(), "one at a time"
    write_points(job.out, {"eye0.png": (10.0, 20.0), "eye1.png": (), "eye2.png": (12.0, 22.0)})
    tell(Finished(reason="done", out=job.out, summary={}))
    user.qtbot.waitUntil(lambda: "proposed centre" in user.viewer.layers)
    np.testing.assert_array_equal(user.viewer.layers["proposed centre"].data, [[10, 20]])
    assert "Enter accepts" in user.label("state") and user.button("Propose centres").isEnabled()
    user.hands.press(Qt.Key.Key_Return)
    assert user.table == {"eye0.png": (10, 20)}
    user.sees("eye1")
    assert len(user.viewer.layers["proposed centre"].data) == 0 and not user.button("Accept proposal").isEnabled()
    user.hands.press(Qt.Key.Key_Return)
    assert user.table == {"eye0.png": (10, 20)}, "there was nothing to accept"
    user.click(5, 5)
    user.sees("eye2")
    user.push("Accept proposal")
    assert user.table["eye2.png"] == (12, 22)


def test_what_was_pretrained_meanwhile_proposes_by_itself(user: User, eyes: Path) -> None:
    user.open(eyes)
    session = Session.of(user.viewer)
    user.docked.hide()
    (eyes / "sources").mkdir()
    (eyes / "sources" / "clicks.safetensors").write_bytes(b"")
    session.runs_changed.emit()
    user.docked.show()
    ((job, tell),) = session.runner._client.submitted
    assert isinstance(job, Locate)
    write_points(job.out, {"eye0.png": (10.0, 20.0)})
    tell(Finished(reason="done", out=job.out, summary={}))
    user.qtbot.waitUntil(lambda: "proposed centre" in user.viewer.layers)
    user.docked.hide()
    user.docked.show()
    assert len(session.runner._client.submitted) == 1, "it was asked already"


def test_proposals_that_cannot_be_read_are_said(user: User, eyes: Path) -> None:
    (eyes / "sources").mkdir()
    (eyes / "sources" / "centres.csv").write_text("image,y,x\ngone.png,1,2\n")
    user.open(eyes)
    (sentence,) = user.told
    assert "centres.csv" in sentence
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20)}


def test_the_sample_becomes_a_project(user: User, tmp_path: Path) -> None:
    user.viewer.open_sample("napari-tlseg", "fundus")
    mine = list(user.viewer.layers)
    user.choose(tmp_path / "project", "Use open layers …")
    user.qtbot.waitUntil(lambda: user.shown == "fundus_phantoms-000", timeout=10_000)
    assert user.label("count") == "4 of 4 looked at · saved"
    assert [layer for layer in user.viewer.layers if layer in mine] == mine
    dataset = read_dataset(tmp_path / "project")
    for index, case in enumerate(dataset):
        np.testing.assert_array_equal(read_mask(case, 2)[0], mine[1].data[index])
        assert case.click == tuple(mine[2].data[index][1:])
    user.click(100, 120)
    assert read_dataset(tmp_path / "project").cases[0].click == pytest.approx((100, 120), abs=1.5)


def test_without_an_image_or_a_folder_nothing_happens(user: User, tmp_path: Path) -> None:
    user.choose(tmp_path / "project", "Use open layers …")
    assert ["No image layer is open" in sentence for sentence in user.told] == [True]
    user.viewer.add_image(np.zeros((4, 5)))
    user._patch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    for button in ("Use open layers …", "Open folder …"):
        user.push(button)
    assert user.folder is None and not (tmp_path / "project").exists()
    (tmp_path / "empty").mkdir()
    user.choose(tmp_path / "empty", "Open folder …")
    user.qtbot.waitUntil(lambda: len(notification_manager.records) > user._told)
    (sentence,) = user.told
    assert "holds no images" in sentence and user.folder is None


def test_a_read_only_folder_asks_for_a_project_once(user: User, eyes: Path, tmp_path: Path) -> None:
    eyes.chmod(0o555)
    answers = [str(eyes), str(tmp_path / "project")]
    user._patch.setattr(QFileDialog, "getExistingDirectory", lambda *_: answers.pop(0))
    user.push("Open folder …")
    user.sees("eye0")
    assert user.folder == tmp_path / "project" and answers == []
    user.click(10, 20)
    assert user.table == {"eye0.png": near(10, 20)} and not (eyes / "clicks.csv").exists()
    assert read_dataset(user.folder)["eye0"].mask is not None, "what was annotated came along"


def test_two_viewers_on_two_folders(
    user: User, eyes: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, viewers: Callable[[], Viewer]
) -> None:
    other = User(viewers(), qtbot, monkeypatch)
    chests = write_chests(eyes.parent / "chests", count=2)
    user.open(eyes)
    other.open(chests)
    user.click(10, 20)
    other.click(1, 11, 40)
    user.hands.press(Qt.Key.Key_X)
    assert user.table == {"eye0.png": near(10, 20), "eye1.png": (None, None)}
    assert list(other.table) == ["chest0.nii.gz"] and (user.shown, other.shown) == ("eye2", "chest1")


def test_two_viewers_on_one_folder_lose_no_click(
    user: User, eyes: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, viewers: Callable[[], Viewer]
) -> None:
    other = User(viewers(), qtbot, monkeypatch)
    user.open(eyes)
    other.open(eyes)
    user.click(10, 20)
    other.hands.press(Qt.Key.Key_N)
    other.sees("eye1")
    other.click(11, 21)
    assert other.shown == "eye2", "not eye0, which was clicked in the other window"
    user.click(12, 22)
    assert user.table == {"eye0.png": near(10, 20), "eye1.png": near(12, 22)}


def test_a_place_on_a_screen_is_a_place_in_the_image(user: User, eyes: Path) -> None:
    """The hands of these tests do not lie."""
    user.open(eyes)
    place = user.hands.where(user.image, 12.5, 33)
    user.hands.send(QEvent.Type.MouseMove, place, Qt.MouseButton.NoButton, Qt.MouseButton.NoButton)
    np.testing.assert_allclose(user.viewer.cursor.position, (12.5, 33), atol=0.2)
