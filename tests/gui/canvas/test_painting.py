"""Masks painted with real strokes: what is on the canvas is on the disk a moment later."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hands import Hands
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from PIL import Image as Picture
from qtpy.QtCore import Qt

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.errors import InputError
from napari_tlseg.gui.canvas import painting
from napari_tlseg.gui.session import Session
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]
CTRL = Qt.KeyboardModifier.ControlModifier


class Artist:
    """Somebody who paints."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.hands, self.session = Hands(viewer), Session.of(viewer)
        self._told = len(notification_manager.records)

    def open(self, folder: Path) -> None:
        self.session.open(folder)
        self.qtbot.waitUntil(lambda: self.session.case is not None and self.session.folder == folder)

    def begin(self) -> Labels:
        with self.qtbot.waitSignal(self.session.painter.began):
            self.session.painter.begin()
        self.layer.brush_size = 5
        return self.layer

    def stroke(self, *places: tuple[float, ...]) -> None:
        self.hands.drag_pixels(self.layer, *places)

    def step(self, by: int = 1) -> None:
        case = self.session.case
        self.session.step(by)
        self.qtbot.waitUntil(lambda: self.session.case is not case)

    def wait_until_saved(self) -> None:
        """As it is on the canvas, with the planes that count as painted."""
        painter = self.session.painter

        def same() -> bool:
            with suppress(InputError):  # replaced just now
                case = self.case
                if case.mask is None or (painter.planes and set(case.planes) != painter.planes):
                    return False
                return np.array_equal(read_mask(case, 3).reshape(self.layer.data.shape), self.layer.data)
            return False

        self.qtbot.waitUntil(same)

    def wait_until_told(self, words: str) -> None:
        self.qtbot.waitUntil(lambda: any(words in each.message for each in notification_manager.records[self._told :]))

    @property
    def layer(self) -> Labels:
        return next(layer for layer in self.viewer.layers if layer.name.startswith("mask: "))

    @property
    def case(self) -> Case:
        """As the folder tells it now."""
        return read_dataset(self.session.folder)[self.session.case.name]

    @property
    def mask(self) -> Any:
        """(N, Y, X) on the disk."""
        return read_mask(self.case, 3)

    @property
    def told(self) -> list[str]:
        new, self._told = notification_manager.records[self._told :], len(notification_manager.records)
        return [each.message for each in new]


@pytest.fixture
def artist(viewer: Viewer, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Artist]:
    monkeypatch.setattr(painting, "PAUSE", 40)
    yield Artist(viewer, qtbot)


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Three photographs; the first has a mask."""
    folder = write_eyes(tmp_path / "eyes", count=3)
    for number in (1, 2):
        (folder / "masks" / f"eye{number}.png").unlink()
    (folder / "clicks.csv").unlink()
    return folder


@pytest.fixture
def chests(tmp_path: Path) -> Path:
    """Three volumes without masks; the stored slices run down."""
    folder = write_chests(tmp_path / "chests", count=3)
    for path in (folder / "masks").iterdir():
        path.unlink()
    return folder


def listed(folder: Path) -> list[tuple[str, int]]:
    with (folder / "labelled.csv").open(newline="") as text:
        return [(name, int(z)) for name, z in list(csv.reader(text))[1:]]


def test_a_stroke_is_on_the_disk_a_moment_later(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    artist.step()
    assert artist.session.case.name == "eye1" and artist.session.case.mask is None
    layer = artist.begin()
    assert layer.mode == "paint" and artist.viewer.layers.selection.active is layer and not layer.data.any()
    assert list((eyes / "masks").iterdir()) == [eyes / "masks" / "eye0.png"], "nothing is written of nothing"
    artist.stroke((10, 10), (10, 20), (20, 30))
    assert layer.data[10, 15] == 1
    artist.wait_until_saved()
    np.testing.assert_array_equal(artist.mask[0], layer.data)
    stored = np.array(Picture.open(eyes / "masks" / "eye1.png"))
    np.testing.assert_array_equal(stored, 255 * layer.data)
    artist.qtbot.waitUntil(lambda: len(artist.session.dataset.labelled) == 2)
    assert not (eyes / "labelled.csv").exists() and artist.told == []


def test_the_mask_there_is_is_corrected_and_undo_is_saved_too(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    before = artist.mask
    layer = artist.begin()
    np.testing.assert_array_equal(layer.data, before[0])
    artist.stroke((3, 3), (3, 9))
    artist.wait_until_saved()
    assert artist.mask[0, 3, 5] == 1 and (artist.mask != before).any()
    artist.hands.canvas.setFocus()
    artist.hands.press(Qt.Key.Key_Z, CTRL)
    artist.wait_until_saved()
    np.testing.assert_array_equal(artist.mask, before)


def test_looking_around_writes_nothing(artist: Artist, chests: Path) -> None:
    artist.open(chests)
    artist.begin()
    with artist.qtbot.assertNotEmitted(artist.session.painter.saved, wait=200):
        for plane in range(3):
            artist.session.show_plane(plane)
    assert not list((chests / "masks").iterdir())


def test_going_on_saves_first_and_coming_back_shows_it(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    artist.step()
    layer = artist.begin()
    artist.stroke((10, 10), (10, 20))
    painted = layer.data.copy()
    artist.step()
    assert layer not in artist.viewer.layers and artist.session.painter.case is None
    artist.step(-1)
    np.testing.assert_array_equal(artist.begin().data, painted)
    np.testing.assert_array_equal(artist.mask[0], painted)


def test_beginning_anew_at_once_loses_no_stroke(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    artist.step()
    for row in (10, 20, 30):
        artist.begin()
        artist.stroke((row, 10), (row, 20))
    artist.session.painter.leave()
    np.testing.assert_array_equal(artist.begin().data[[10, 20, 30], 15], 1)


def test_closing_the_viewer_saves_first(
    eyes: Path, qtbot: QtBot, viewers: Callable[[], Viewer], viewer: Viewer
) -> None:
    other = viewers()
    artist = Artist(other, qtbot)
    artist.open(eyes)
    artist.step()
    artist.begin()
    artist.stroke((10, 10), (10, 20))
    other.close()
    assert read_mask(read_dataset(eyes)["eye1"], 2)[0, 10, 15] == 1


def test_labels_to_be_corrected_are_saved_at_once(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    found = np.zeros((1, 48, 64), np.uint8)
    found[0, 5:9, 5:9] = 1
    with artist.qtbot.waitSignal(artist.session.painter.saved):
        artist.session.painter.begin(found)
    np.testing.assert_array_equal(artist.mask, found)


def test_the_planes_painted_in_are_listed_by_their_stored_z(artist: Artist, chests: Path) -> None:
    artist.open(chests)
    artist.begin()
    artist.session.show_plane(2)
    artist.stroke((2, 10, 10), (2, 10, 20))
    artist.wait_until_saved()
    geometry = artist.case.geometry
    assert listed(chests) == [("chest0.nii.gz", geometry.stored_plane(2))]
    assert artist.case.painted == (2,) and np.flatnonzero(artist.mask.any(axis=(1, 2))).tolist() == [2]
    artist.session.painter.set_painted(0, True)
    artist.wait_until_saved()
    assert artist.case.painted == (0, 2), "an empty slice can be fully painted, too"
    artist.session.painter.set_painted(2, False)
    artist.wait_until_saved()
    assert artist.case.painted == (0,)
    artist.stroke((2, 20, 10), (2, 20, 20))
    artist.wait_until_saved()
    assert artist.case.painted == (0,) and artist.mask[2, 20, 15] == 1, "unticked stays so while it is painted in"
    artist.session.painter.set_painted(2, True)
    artist.wait_until_saved()
    assert artist.case.painted == (0, 2) and artist.told == []
    artist.qtbot.waitUntil(lambda: artist.session.case.painted == (0, 2))


def test_the_last_painted_plane_cannot_be_unticked(artist: Artist, chests: Path) -> None:
    artist.open(chests)
    artist.begin()
    artist.session.show_plane(1)
    artist.stroke((1, 10, 10), (1, 10, 20))
    artist.wait_until_saved()
    with artist.qtbot.waitSignal(artist.session.painter.planes_changed):  # so that a checkbox goes back
        artist.session.painter.set_painted(1, False)
    (sentence,) = artist.told
    assert "tick another one first" in sentence and artist.session.painter.planes == {1}
    artist.stroke((1, 20, 10), (1, 20, 20))
    artist.wait_until_saved()
    assert artist.case.painted == (1,) and artist.told == []


def test_two_volumes_painted_one_after_the_other_keep_their_planes(artist: Artist, chests: Path) -> None:
    artist.open(chests)
    for plane in (0, 1, 2):
        artist.begin()
        artist.session.show_plane(plane)
        artist.stroke((plane, 10, 10), (plane, 10, 20))
        artist.step()
    artist.begin()
    assert [name for name, _ in listed(chests)] == ["chest0.nii.gz", "chest1.nii.gz", "chest2.nii.gz"]
    assert [case.painted for case in read_dataset(chests)] == [(0,), (1,), (2,)]


def test_a_volume_that_was_painted_throughout_stays_so(artist: Artist, tmp_path: Path) -> None:
    folder = write_chests(tmp_path / "whole", count=1)
    artist.open(folder)
    artist.begin()
    assert artist.session.painter.planes == {0, 1, 2}
    artist.stroke((artist.session.plane(), 3, 3), (artist.session.plane(), 3, 9))
    artist.wait_until_saved()
    assert artist.case.painted == (0, 1, 2)


def test_a_write_that_fails_is_said_and_tried_again_with_the_next_stroke(
    artist: Artist, eyes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artist.open(eyes)
    artist.step()
    layer = artist.begin()

    def fail(source: str, target: str) -> None:
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        artist.stroke((10, 10), (10, 20))
        artist.wait_until_told("is not saved")
        sentence = artist.told[0]
        assert "eye1" in sentence and "no space left" in sentence and "\n" not in sentence
        artist.qtbot.wait(200)
        assert not (eyes / "masks" / "eye1.png").exists()
    artist.stroke((20, 10), (20, 20))
    artist.wait_until_saved()
    np.testing.assert_array_equal(artist.mask[0], layer.data)
    assert layer.data[10, 15] == layer.data[20, 15] == 1


def test_what_could_not_be_written_is_not_lost_when_the_user_goes_on(
    artist: Artist, eyes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artist.open(eyes)
    artist.step()
    artist.begin()

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        artist.stroke((10, 10), (10, 20))
        artist.step()
        artist.wait_until_told("is not saved")
    artist.step(-1)
    assert artist.begin().data[10, 15] == 1, "it is still there"
    artist.step()
    artist.begin()
    artist.stroke((30, 10), (30, 20))
    artist.wait_until_saved()
    artist.qtbot.waitUntil(lambda: len(read_dataset(eyes).labelled) == 3)
    assert read_mask(read_dataset(eyes)["eye1"], 2)[0, 10, 15] == 1


def test_a_layer_that_the_user_deletes_is_saved(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    artist.step()
    layer = artist.begin()
    artist.stroke((10, 10), (10, 20))
    with artist.qtbot.waitSignal(artist.session.painter.ended):
        artist.viewer.layers.remove(layer)
    assert artist.session.painter.case is None
    artist.qtbot.waitUntil(lambda: (eyes / "masks" / "eye1.png").exists())
    np.testing.assert_array_equal(artist.begin().data, layer.data)
    artist.viewer.layers.remove("eye1")
    artist.stroke((20, 10), (20, 20))
    artist.wait_until_saved()
    assert artist.mask[0, 20, 15] == 1 and artist.told == []


def test_a_label_that_is_no_class_is_said(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    layer = artist.begin()
    before = artist.mask
    layer.selected_label = 7
    artist.stroke((3, 3), (3, 9))
    artist.wait_until_told("label 7")
    np.testing.assert_array_equal(artist.mask, before)
    artist.hands.canvas.setFocus()
    artist.hands.press(Qt.Key.Key_Z, CTRL)
    layer.selected_label = 1
    artist.stroke((5, 3), (5, 9))
    artist.wait_until_saved()
    np.testing.assert_array_equal(artist.mask[0], layer.data)


@pytest.mark.parametrize("suffix", [".tiff", ".jpg"])
def test_a_mask_in_another_format_gives_way_to_one(artist: Artist, eyes: Path, suffix: str) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 10:20] = 255
    old = eyes / "masks" / f"eye1{suffix}"
    if suffix == ".jpg":
        Picture.fromarray(mask).save(old, quality=95)
    else:
        tifffile.imwrite(old, mask)
    artist.open(eyes)
    artist.step()
    assert artist.begin().data[15, 15] == 1
    artist.stroke((30, 10), (30, 20))
    artist.wait_until_saved()
    assert len(read_dataset(eyes).labelled) == 2, "the folder can still be read"
    assert artist.mask[0, 15, 15] == artist.mask[0, 30, 15] == 1


def test_a_mask_that_cannot_be_read_is_said_and_not_overwritten(artist: Artist, eyes: Path) -> None:
    artist.open(eyes)
    broken = (eyes / "masks" / "eye0.png").read_bytes()[:70]
    (eyes / "masks" / "eye0.png").write_bytes(broken)
    artist.session.painter.begin()
    artist.wait_until_told("eye0.png")
    assert artist.session.painter.case is None and (eyes / "masks" / "eye0.png").read_bytes() == broken


def test_the_users_own_labels_are_not_ours(artist: Artist, eyes: Path) -> None:
    mine = artist.viewer.add_labels(np.ones((48, 64), int), name="mask: eye0")
    artist.open(eyes)
    with artist.qtbot.waitSignal(artist.session.painter.began):
        artist.session.painter.begin()
    artist.step()
    assert mine in artist.viewer.layers and (mine.data == 1).all()
