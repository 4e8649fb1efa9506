"""The curves of a training: what is kept of its events, and what is seen of them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_tlseg.data.run import RunFolder
from napari_tlseg.errors import InputError
from napari_tlseg.events import Evaluated, Event, Started, Stepped
from napari_tlseg.gui.train.curves import Curves
from napari_tlseg.gui.train.history import History, read_events

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window


def training(steps: int = 100, strength: float | None = 1e-3, score: str = "dice") -> list[Event]:
    """Noisy and falling, a look every 25 steps, the best at step 50; λ becomes ∞ halfway."""
    rng = np.random.default_rng(0)
    events: list[Event] = [Started(stage="train", total=steps)]
    for step in range(1, steps + 1):
        now = math.inf if strength is not None and step > steps / 2 else strength
        events.append(Stepped(step=step, loss=1 / step + float(rng.normal(0.5, 0.1)), strength=now))
        if step % 25 == 0:
            scores, drift = {score: 0.8 - abs(step - 50) / 100}, None if strength is None else step / 1000
            drifts = () if drift is None else (0.0, 2 * drift, drift)
            events.append(Evaluated(step=step, scores=scores, kept=step <= 50, drift=drift, drifts=drifts))
    return events


def told(events: list[Event], total: int = 100) -> History:
    history = History(total=total)
    for event in events:
        history.hear(event)
    return history


def test_a_training_as_it_was_told() -> None:
    history = told(training())
    assert history.steps == list(range(1, 101)) and history.looks == [25, 50, 75, 100]
    assert history.score == "dice" and history.looks[history.kept] == 50
    assert history.drifts == pytest.approx([2.5, 5, 7.5, 10]), "per cent"
    assert history.stages == pytest.approx([0, 20, 10]), "at the last look"
    assert np.std(history.smooth[50:]) < np.std(history.losses[50:]) / 2
    assert np.mean(history.smooth) == pytest.approx(np.mean(history.losses), rel=0.1)


def test_a_change_of_strength_is_marked_where_it_acts_and_a_drag_once() -> None:
    assert told(training()).moves == [(1, 1e-3), (51, math.inf)]
    dragged = [Stepped(step=step, loss=1, strength=1.0 if step < 30 else step) for step in range(1, 33)]
    assert told(dragged, total=1000).moves == [(1, 1.0), (32, 32)]
    assert told(training(strength=None)).moves == []


def test_a_loss_that_is_not_finite_leaves_a_gap_and_no_more() -> None:
    history = told([Stepped(step=step, loss=loss) for step, loss in enumerate((1.0, math.nan, math.inf, 1.0), start=1)])
    assert np.isnan(history.losses).tolist() == [False, True, True, False]
    assert history.smooth == pytest.approx([1, 1, 1, 1])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder.create(tmp_path / "lambda-1e-3")
    for event in training():
        folder.append_event({"event": type(event).__name__, **vars(event)})
    return folder.path


def test_a_run_folder_gives_the_events_back(run: Path) -> None:
    assert list(read_events(run)) == training()[1:]


def test_a_line_that_was_cut_off_is_left_out(run: Path) -> None:
    file = run / "events.jsonl"
    file.write_text(file.read_text() + '{"event": "Stepped", "st')
    assert len(list(read_events(run))) == 104


@pytest.mark.parametrize("content", [None, json.dumps({"event": "Noted", "text": "nothing"}) + "\n"])
def test_a_folder_without_a_training_is_refused(curves: Curves, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "events.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"events\.jsonl: .*; choose"):
        curves.load(tmp_path)


@pytest.fixture
def curves(qtbot: QtBot) -> Curves:
    widget = Curves()
    qtbot.addWidget(widget)
    widget.resize(330, 480)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def texts(curves: Curves) -> list[tuple[str, str]]:
    return [(plot._name.text(), plot._note.text()) for plot in curves._plots if plot.isVisible()]


def inked(curves: Curves) -> list[float]:
    """Of each plot seen, the share of the pixels that are not background."""
    QApplication.processEvents()
    shares = []
    for plot in curves._plots:
        image = plot._canvas.grab().toImage()
        ground = plot.palette().color(plot.backgroundRole()).rgb()
        pixels = [image.pixel(x, y) for x in range(0, image.width(), 2) for y in range(0, image.height(), 2)]
        shares.append(sum(pixel != ground for pixel in pixels) / len(pixels))
    return shares


def test_a_training_is_drawn_as_it_goes(curves: Curves, qtbot: QtBot) -> None:
    curves.begin("Fine-tuning from my clicks", 100)
    empty = inked(curves)
    for event in training():
        curves.hear(event)
    assert inked(curves) == empty, "not at once"
    qtbot.waitUntil(lambda: not curves._timer.isActive())
    assert all(now > before + 0.01 for now, before in zip(inked(curves), empty, strict=True))
    names, notes = zip(*texts(curves), strict=True)
    assert names == ("Training loss", "Validation Dice (higher is better)", "Encoder moved, %")
    assert notes[1:] == ("kept 0.8", "now 10")
    assert curves._heading.text() == "Fine-tuning from my clicks"


def test_the_layers_are_bars_beside_the_drift_and_no_taller(curves: Curves, run: Path) -> None:
    curves.load(run)
    bars, drift = curves._layers, curves._drift
    assert bars.isVisible() and bars.y() == drift.y() and bars.height() == drift.height() and bars.x() > drift.x()
    assert bars._bars.opts["x"].tolist() == [1, 2, 3] and bars._bars.opts["height"] == pytest.approx([0, 20, 10])
    assert bars._name.text() == "By layer, %"
    assert "edges" in bars.toolTip() and "λ" in bars.toolTip()
    curves.clear()
    assert not bars.isVisible()


def test_many_events_are_one_redraw_and_then_the_timer_rests(curves: Curves, qtbot: QtBot) -> None:
    redraws: list[int] = []
    curves._timer.timeout.connect(lambda: redraws.append(1))
    curves.begin("", 2000)
    for event in training(2000):
        curves.hear(event)
    qtbot.waitUntil(lambda: not curves._timer.isActive())
    assert len(redraws) == 1
    curves.hear(Started(stage="score", total=3))
    assert not curves._timer.isActive(), "nothing of it is drawn"


def test_hidden_it_keeps_still_and_shown_again_it_knows_all(curves: Curves, qtbot: QtBot) -> None:
    curves.begin("", 100)
    curves.hear(Stepped(step=1, loss=1))
    curves.hide()
    assert not curves._timer.isActive()
    for event in training()[2:]:
        curves.hear(event)
    assert not curves._timer.isActive()
    curves.show()
    assert texts(curves)[1][1] == "kept 0.8"


def test_a_change_of_strength_is_a_line_in_all_plots_and_named_in_the_first(curves: Curves, run: Path) -> None:
    curves.load(run)
    assert [[mark.value() for mark in plot._marks] for plot in curves._plots] == [[1, 51]] * 3
    labels = [[child.format for mark in plot._marks for child in mark.childItems()] for plot in curves._plots]
    assert labels == [["λ = 1e-3", "λ = ∞"], [], []]
    assert curves._heading.text() == "lambda-1e-3"
    curves.clear()
    assert not any(plot._marks for plot in curves._plots) and texts(curves)[0] == ("Training loss", "")


def test_without_a_source_there_is_no_drift_to_show(curves: Curves, qtbot: QtBot) -> None:
    curves.begin("Pretraining", 100)
    for event in training(strength=None, score="error"):
        curves.hear(event)
    qtbot.waitUntil(lambda: not curves._timer.isActive())
    assert [name for name, _ in texts(curves)] == ["Training loss", "Localization error, px"]


def test_without_validation_it_says_so(curves: Curves, qtbot: QtBot) -> None:
    curves.begin("", 25)
    curves.hear(Evaluated(step=25, scores={}, kept=False, drift=0.1))
    qtbot.waitUntil(lambda: not curves._timer.isActive())
    assert texts(curves)[1] == ("Validation score", "too few cases to judge")


def test_the_mouse_goes_through_to_the_panel(curves: Curves) -> None:
    under = curves.childAt(curves._loss.geometry().center())
    assert under in (curves._loss, curves), "neither a menu nor a zoom"


def test_pyqtgraph_leaves_the_errors_that_nobody_caught_to_napari() -> None:
    code = """
import sys, threading
hooks = sys.excepthook, threading.excepthook
from napari_tlseg.gui.widgets.plot import _pyqtgraph
assert "pyqtgraph" not in sys.modules, "it takes a while"
_pyqtgraph()
assert (sys.excepthook, threading.excepthook) == hooks
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_follows_the_theme_in_napari_and_leaves_nothing_behind(viewer: Viewer, qtbot: QtBot, run: Path) -> None:
    curves = Curves()
    viewer.window.add_dock_widget(curves, name="curves")
    curves.load(run)

    def ground() -> int:
        return curves._loss._canvas.backgroundBrush().color().lightness()

    viewer.theme = "dark"
    qtbot.waitUntil(lambda: ground() < 80)
    viewer.theme = "light"
    qtbot.waitUntil(lambda: ground() > 170)
    curves.begin("", 10)
    curves.hear(Stepped(step=1, loss=1.0))  # its timer runs while the window closes
