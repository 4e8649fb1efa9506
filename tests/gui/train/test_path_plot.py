"""What a path found, drawn against λ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_tlseg.events import Reached, Stepped
from napari_tlseg.gui.train.path_plot import PathPlot, stage_of
from napari_tlseg.gui.widgets.strength import LAST, tick_of

if TYPE_CHECKING:
    from napari import Viewer

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]


def reached(strength: float, dice: float | None, drift: float, sd: float | None = 0.1) -> Reached:
    scores = {"dice_mean": dice, "dice_sd": sd, "precision_mean": 0.9}
    return Reached(strength=strength, drift=drift, scores=scores)


@pytest.fixture
def plot(viewer: Viewer) -> PathPlot:
    box, made = QWidget(), PathPlot()
    QVBoxLayout(box).addWidget(made)
    viewer.window.add_dock_widget(box, name="Path")
    made.clear()
    return made


def line(item: Any) -> list[tuple[float, float]]:
    return list(zip(*map(np.ndarray.tolist, item.getData()), strict=True))


def test_it_grows_with_every_strength_from_free_to_frozen(plot: PathPlot) -> None:
    assert plot.isHidden()
    for event in (reached(math.inf, 0.7, 0.0), reached(0.01, 0.9, 0.02), Stepped(step=1, loss=1.0)):
        plot.hear(event)
    plot.hear(reached(0.0, 0.8, 0.05))
    assert not plot.isHidden()
    assert line(plot._score._line) == [(0, 0.8), (tick_of(0.01), 0.9), (LAST, 0.7)], "0 left, ∞ right"
    assert line(plot._score._second) == [(0, 0.9), (tick_of(0.01), 0.9), (LAST, 0.9)]
    assert line(plot._drift._line) == [(0, 5.0), (tick_of(0.01), 2.0), (LAST, 0.0)], "per cent"
    assert line(plot._score._best) == [(tick_of(0.01), 0.9)] and plot._score._note.text() == "0.9"
    assert plot._score._spread.opts["height"].tolist() == [0.2] * 3, "one standard deviation both ways"
    plot.clear()
    assert plot.isHidden() and plot.stages == []


def test_what_is_not_known_is_not_drawn(plot: PathPlot) -> None:
    for event in (reached(math.inf, None, 0.0, None), reached(0.0, 0.8, 0.05, None)):
        plot.hear(event)
    assert line(plot._score._best) == [(0, 0.8)] and len(plot._score._spread.opts["height"]) == 0


def test_a_path_is_read_as_the_summary_of_a_run_keeps_it() -> None:
    record = {"strength": "inf", "drift": 0.0, "drifts": [0.0, 0.0], "scores": {"dice_mean": 0.5, "dice_sd": None}}
    stage = stage_of(record)
    assert stage.strength == math.inf and stage.drifts == (0.0, 0.0) and stage.scores["dice_sd"] is None
