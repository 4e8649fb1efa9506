"""Images are read ahead, in another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QObject

from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.gui.background import Background
from napari_tlseg.gui.canvas import images as module
from napari_tlseg.gui.canvas.images import Images
from napari_tlseg.gui.canvas.layers import LayerData, image_layer
from tiny import write_eyes

pytestmark = pytest.mark.window


class Reading:
    """What was read from the disk, in order; a gate holds it up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.gate = threading.Event()
        self.gate.set()
        monkeypatch.setattr(module, "image_layer", self._read)

    def _read(self, case: Case) -> LayerData:
        self.names.append(case.name)
        self.threads.add(threading.current_thread())
        assert self.gate.wait(5)
        return image_layer(case)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    return Reading(monkeypatch)


@pytest.fixture
def images(qtbot: QtBot, reading: Reading) -> Iterator[Images]:
    parent = QObject()
    reader = Background(parent, "read images")
    yield Images(reader)
    reading.gate.set()
    reader.close(drop=True)
    parent.deleteLater()


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    return read_dataset(write_eyes(tmp_path / "eyes", count=10)).cases


class Asked:
    """An image that was asked for."""

    def __init__(self, images: Images, case: Case) -> None:
        self.data: LayerData | None = None
        self.error: Exception | None = None
        images.get(case, self._take, self._fail)

    def _take(self, data: LayerData) -> None:
        self.data = data

    def _fail(self, error: Exception) -> None:
        self.error = error


def test_what_was_expected_is_there_at_once_and_not_read_again(
    qtbot: QtBot, images: Images, reading: Reading, cases: tuple[Case, ...]
) -> None:
    images.expect(cases[:3])
    qtbot.waitUntil(lambda: len(reading.names) == 3)
    qtbot.wait(50)
    data = Asked(images, cases[1]).data
    assert data is not None and data[1]["name"] == "eye1"
    np.testing.assert_array_equal(data[0], image_layer(cases[1])[0])
    assert reading.names == ["eye0", "eye1", "eye2"]
    assert threading.main_thread() not in reading.threads


def test_what_is_asked_for_comes_before_what_is_expected(
    qtbot: QtBot, images: Images, reading: Reading, cases: tuple[Case, ...]
) -> None:
    reading.gate.clear()
    images.expect(cases[:4])
    qtbot.waitUntil(lambda: reading.names == ["eye0"])
    asked = Asked(images, cases[9])
    images.expect(cases[7:])
    reading.gate.set()
    qtbot.waitUntil(lambda: asked.data is not None)
    assert reading.names[:2] == ["eye0", "eye9"]
    qtbot.waitUntil(lambda: reading.names == ["eye0", "eye9", "eye7", "eye8"])


@pytest.mark.parametrize("expected", [0, 1], ids=["being read", "waiting to be read"])
def test_what_is_on_its_way_is_read_once(
    qtbot: QtBot, images: Images, reading: Reading, cases: tuple[Case, ...], expected: int
) -> None:
    reading.gate.clear()
    images.expect(cases[:2])
    qtbot.waitUntil(lambda: reading.names == ["eye0"])
    asked = Asked(images, cases[expected])
    reading.gate.set()
    qtbot.waitUntil(lambda: asked.data is not None)
    assert reading.names == [f"eye{number}" for number in range(expected + 1)]


def test_an_image_that_cannot_be_read_is_told_when_it_is_asked_for_and_tried_again(
    qtbot: QtBot, images: Images, reading: Reading, cases: tuple[Case, ...]
) -> None:
    content = cases[1].image.read_bytes()
    cases[1].image.write_bytes(content[:100])
    with qtbot.assertNotEmitted(images.failed, wait=100):
        images.expect(cases[:2])
    assert images.unreadable == set(), "nobody asked yet"
    with qtbot.waitSignal(images.failed) as failed:
        asked = Asked(images, cases[1])
    assert failed.args == [cases[1]] and asked.error is not None and "eye1.png" in str(asked.error)
    assert images.unreadable == {"eye1"}
    cases[1].image.write_bytes(content)
    again = Asked(images, cases[1])
    qtbot.waitUntil(lambda: again.data is not None)
    assert images.unreadable == set()


def test_only_so_many_are_kept_those_asked_for_last_longest(
    qtbot: QtBot, images: Images, reading: Reading, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for case in (*cases[:3], cases[0], cases[3]):
        asked = Asked(images, case)
        qtbot.waitUntil(lambda asked=asked: asked.data is not None)
    assert reading.names == ["eye0", "eye1", "eye2", "eye3"]
    assert Asked(images, cases[0]).data is not None and Asked(images, cases[1]).data is None
    qtbot.waitUntil(lambda: reading.names[-1] == "eye1")


def test_large_images_are_let_go(
    qtbot: QtBot, images: Images, reading: Reading, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM", 4 * 48 * 64)
    for case in cases[:6]:
        asked = Asked(images, case)
        qtbot.waitUntil(lambda asked=asked: asked.data is not None)
    assert [Asked(images, case).data is not None for case in (cases[5], cases[0])] == [True, False]


def test_of_channels_that_are_no_colours_the_first_is_shown(qtbot: QtBot, images: Images, tmp_path: Path) -> None:
    folder = tmp_path / "stain"
    folder.mkdir()
    array = np.random.default_rng(0).integers(0, 255, (6, 7, 5), np.uint8)
    tifffile.imwrite(folder / "a.tif", array, photometric="minisblack", planarconfig="contig")
    asked = Asked(images, read_dataset(folder).cases[0])
    qtbot.waitUntil(lambda: asked.data is not None)
    np.testing.assert_array_equal(asked.data[0], array[..., 0])
    assert "channel_axis" not in asked.data[1]


def test_of_three_modalities_the_first_is_shown_and_no_colours(qtbot: QtBot, images: Images, tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 4000, (3, 6, 7), np.uint16)
    for channel, array in enumerate(arrays):
        tifffile.imwrite(tmp_path / f"a_{channel:04}.tif", array)
    (tmp_path / "dataset.toml").write_text('channels = ["t1", "t2", "flair"]\n')
    asked = Asked(images, read_dataset(tmp_path).cases[0])
    qtbot.waitUntil(lambda: asked.data is not None)
    np.testing.assert_array_equal(asked.data[0], arrays[0])
    assert not {"channel_axis", "rgb"} & asked.data[1].keys()
