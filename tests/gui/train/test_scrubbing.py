"""A path of λ in the window: begun with a button, drawn as it grows, and scrubbed through with the mouse."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from desk import LONG, TINY, Desk
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QStyle, QStyleOptionSlider

from napari_tlseg import read_dataset
from napari_tlseg.cli import main
from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.overlay import confusion_map
from napari_tlseg.data.run import read_summary
from napari_tlseg.events import Previewed, Reached
from napari_tlseg.gui.widgets.strength import STRENGTHS, strength_text, tick_of
from napari_tlseg.studies.jobs import LambdaPath, Scrub
from tiny import FAST, write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow, pytest.mark.usefixtures("lent_worker")]
STEPS = ("--steps", "30", "--warm", "0.5", "--size", "32", "--batch", "4", "--device", "cpu", "--precision", "float32")
BARE = "eye11"
"""Without a mask."""


def make_path(root: Path) -> Path:
    source = root / "sources" / "clicks.safetensors"
    source.parent.mkdir()
    assert main(["pretrain", str(root), "--out", str(source), *FAST]) == 0
    out = ["--out", str(root / "runs" / "walk"), "--lambdas", "inf,0.01,0"]
    assert main(["path", str(root), "--source", str(source), *out, *STEPS]) == 0
    return root


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("data") / "eyes", 12)
    (root / "masks" / f"{BARE}.png").unlink()
    return make_path(root)


@pytest.fixture
def eyes(walked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(walked, tmp_path / "eyes")


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot) -> Desk:
    viewer.window._qt_window.resize(1200, 980)
    return Desk(viewer, qtbot)


def drag(desk: Desk, strength: float) -> None:
    """The handle of the slider, with the mouse, to the tick of this λ."""
    slider = desk.dock.strength._slider
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    complex, part = QStyle.ComplexControl.CC_Slider, QStyle.SubControl.SC_SliderHandle
    start = slider.style().subControlRect(complex, option, part, slider).center()
    handle = slider.style().pixelMetric(QStyle.PixelMetric.PM_SliderLength, option, slider)
    room = slider.width() - handle
    end = QPoint(QStyle.sliderPositionFromValue(0, slider.maximum(), tick_of(strength), room) + handle // 2, start.y())
    QTest.mousePress(slider, Qt.MouseButton.LeftButton, pos=start)
    QTest.mouseMove(slider, (start + end) / 2)
    QTest.mouseMove(slider, end)
    QTest.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=end)


def preview(desk: Desk) -> Labels | None:
    return desk.session.preview.overlay.layer


def previewed(desk: Desk) -> list[Previewed]:
    return [event for event in desk.heard if isinstance(event, Previewed)]


def look(desk: Desk, case: str, run: str = "walk") -> None:
    desk.session.show_run(desk.session.folder / "runs" / run)
    desk.session.show(desk.session.dataset[case])
    desk.wait(lambda: desk.session.case.name == case)


def shown_at(desk: Desk, strength: float) -> Labels:
    """The layer, once it shows the λ that the slider stands at."""
    wanted = f"at λ = {strength_text(desk.dock.strength.value())}: {desk.session.case.name}"
    desk.wait(lambda: preview(desk) is not None and preview(desk).name.endswith(wanted))
    assert abs(tick_of(desk.dock.strength.value()) - tick_of(strength)) <= 1, "as near as a pixel is"
    return preview(desk)


def test_dragging_the_slider_repaints_the_errors_of_the_case_shown(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    run = eyes / "runs" / "walk"
    assert desk.dock.path_plot.isHidden() and not desk.dock.strength._note.isVisible()
    look(desk, case := _part(eyes, "training"))
    assert desk.dock.strength._note.text().startswith("Preview") and desk.dock.path_plot.isVisible()
    assert [stage.strength for stage in desk.dock.path_plot.stages] == [math.inf, 0.01, 0.0]
    truth = read_mask(desk.session.dataset[case], 2)[0]
    drag(desk, STRENGTHS[-1])
    frozen = shown_at(desk, math.inf)
    assert frozen.name == f"errors at λ = ∞: {case}" and frozen.data.dtype == np.uint8
    assert (frozen.data == confusion_map(truth, previewed(desk)[-1].labels, 1)).all()
    drag(desk, 0.0)
    free = shown_at(desk, 0.0)
    assert free is frozen, "one layer: another takes its time"
    assert (free.data == confusion_map(truth, previewed(desk)[-1].labels, 1)).all() and "λ = 0:" in free.name
    assert not (previewed(desk)[-1].labels == previewed(desk)[0].labels).all()
    assert len([task for task in desk.session.runner.tasks if isinstance(task.job, Scrub)]) == 1
    assert run.exists() and desk.told == []


def _part(root: Path, part: str) -> str:
    """A case of a part."""
    summary = read_summary(root / "runs" / "walk")
    return {"training": summary["training"], "held-out": summary}[part]["cases"][0]


def test_a_held_out_case_and_one_without_a_mask_show_what_was_found_alone(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    for case in (_part(eyes, "held-out"), BARE):
        look(desk, case)
        drag(desk, 0.01)
        drag(desk, 0.0)
        layer = shown_at(desk, 0.0)
        assert layer.name == f"found at λ = 0: {case}"
        assert ((layer.data != 0) == (previewed(desk)[-1].labels != 0)).all()
        assert desk.session.preview.overlay._pair.truth.max() == 0


def test_leaving_and_training_end_it(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    look(desk, "eye1")
    drag(desk, 0.0)
    shown_at(desk, 0.0)
    desk.session.show_run(None)
    assert preview(desk) is None
    desk.wait(lambda: not desk.session.runner.tasks)
    look(desk, "eye2")
    drag(desk, 0.01)
    shown_at(desk, 0.01)
    desk.dock.plan.source.setValue(eyes / "sources" / "clicks.safetensors")
    desk.train(**LONG)
    assert preview(desk) is None and desk.steps and not any(isinstance(t.job, Scrub) for t in desk.session.runner.tasks)
    desk.stop()
    assert desk.told == []


def test_a_case_that_is_shown_next_is_previewed_too_and_another_tab_ends_it(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    look(desk, "eye1")
    drag(desk, 0.0)
    shown_at(desk, 0.0)
    desk.session.show(desk.session.dataset["eye2"])
    desk.wait(lambda: desk.session.case.name == "eye2")
    shown_at(desk, 0.0)
    assert previewed(desk)[-1].case == "eye2"
    desk.dock.hide()
    assert preview(desk) is None
    desk.wait(lambda: not desk.session.runner.tasks)


def test_the_plane_that_is_seen_of_a_volume(desk: Desk, tmp_path: Path) -> None:
    root = write_chests(tmp_path / "chests")
    clicks = "\n".join(["image,z,y,x", *(f"chest{n}.nii.gz,1,20,20" for n in range(6))])
    (root / "clicks.csv").write_text(clicks + "\n")
    make_path(root)
    desk.open(root)
    look(desk, "chest1")
    for plane in (2, 0):
        desk.session.show_plane(plane)
        drag(desk, 0.01 if plane else 0.0)
        desk.wait(lambda plane=plane: bool(previewed(desk)) and previewed(desk)[-1].plane == plane)
        desk.wait(lambda: preview(desk) is not None)
        layer, image = preview(desk), desk.session.image
        assert layer.data.shape == (1, *image.data.shape[1:])
        assert np.allclose(layer.data_to_world((0, 5, 7)), image.data_to_world((plane, 5, 7)))


def test_the_button_trains_a_path_that_is_drawn_as_it_grows(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    dock = desk.dock
    dock.plan.source.setValue(eyes / "sources" / "clicks.safetensors")
    dock.plan.form.setValue({**TINY, "steps": 8})
    QTest.mouseClick(dock._path, Qt.MouseButton.LeftButton)
    desk.wait(lambda: any(isinstance(event, Reached) for event in desk.heard))
    assert isinstance(desk.session.runner.tasks[0].job, LambdaPath)
    assert not dock.strength.isEnabled() and "all λ" in dock.strength._note.text()
    assert dock.path_plot.isVisible() and dock.path_plot.stages[0].strength == math.inf
    desk.wait_until_over()
    desk.wait(lambda: desk.session.run is not None)
    assert desk.session.run.name == "clicks-path" and len(dock.path_plot.stages) == 9
    assert dock.path_plot.stages[-1].strength == 0.0 and dock.strength.isEnabled()
    drag(desk, 0.0)
    shown_at(desk, 0.0)
    assert desk.told == []


def test_a_sweep_keeps_up_with_the_mouse(desk: Desk, eyes: Path) -> None:
    """Only the newest λ counts; the last one is always shown."""
    desk.open(eyes)
    look(desk, "eye1")
    drag(desk, 0.0)
    shown_at(desk, 0.0)
    for tick in range(0, 162, 3):
        desk.dock.strength.setValue(STRENGTHS[tick])
        QTest.qWait(5)
    began = time.monotonic()
    shown_at(desk, desk.dock.strength.value())
    assert time.monotonic() - began < 60
    assert read_dataset(eyes) and desk.told == []
