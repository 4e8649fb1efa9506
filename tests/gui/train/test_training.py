"""From clicks to a model in the Train dock, with the worker process that does it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from desk import LONG, TINY, Desk, events

from napari_tlseg.data.run import read_summary
from napari_tlseg.engine.trainings import Estimate
from napari_tlseg.events import Evaluated
from napari_tlseg.nets.checkpoint import load
from tiny import write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow, pytest.mark.usefixtures("lent_worker")]

MODEL = "model.safetensors"


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot, tmp_path: Path) -> Desk:
    return Desk(viewer, qtbot).open(write_eyes(tmp_path / "eyes"))


def encoder(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in load(path).tensors.items() if name.startswith("encoder.")}


def test_from_clicks_to_a_model_with_the_slider_moved_in_mid_run(desk: Desk) -> None:
    dock, folder = desk.dock, desk.session.folder
    dock.plan.source.form.setValue({"size": 64, "batch": 8, "steps": 100_000})
    dock.plan.source._button.click()
    desk.wait(lambda: len(desk.steps) > 3)
    desk.stop()
    source = folder / "sources" / "clicks.safetensors"
    assert dock.plan.source.value() == source and load(source).provenance.steps == desk.steps[-1].step
    assert "Pretrained" in dock.plan.source._said.text()

    dock.strength.setValue(0.0)
    desk.train(**{**LONG, "size": 96, "batch": 8})
    moves = []
    desk.wait(lambda: any(isinstance(event, Evaluated) for event in desk.heard))
    assert dock.strength._drift.text().startswith("moved ")
    for strength in (8.0, math.inf):
        moves.append((desk.steps[-1].step, strength))
        dock.strength.setValue(strength)
        desk.wait(lambda strength=strength: desk.steps[-1].strength == strength)
    desk.wait(lambda: desk.steps[-1].step > moves[-1][0] + 4)
    desk.stop()

    run = folder / "runs" / "clicks-0"
    recorded = [(each["step"], each["strength"]) for each in events(run, "Stepped")]
    for seen, strength in moves:
        acted = next(step for step, used in recorded if used == ("inf" if math.isinf(strength) else strength))
        assert acted <= seen + 2, f"λ = {strength} was set at step {seen} and acted from {acted}"
    drifts = [each["drift"] for each in events(run, "Evaluated")]
    assert drifts[0] > 0, "λ = 0: the encoder moves"
    found, wanted = encoder(run / MODEL), encoder(source)
    assert found.keys() == wanted.keys() and all((found[name] == wanted[name]).all() for name in wanted)
    assert read_summary(run)["lambda_history"][0] == [1, 0.0] and dock.course.curves._history.moves[-1][1] == math.inf
    assert desk.session.run.path == run and "was stopped" in dock.course._said.text()

    dock._warm.click()
    desk.train(steps=2)
    desk.wait_until_over()
    again = folder / "runs" / "clicks-inf"
    assert read_summary(again)["start"] == "clicks-0" and read_summary(again)["lambda"] == "inf"
    said = dock.course._said.text()
    assert said.startswith("clicks-inf: Dice ") and "Too few to judge by" in said
    assert desk.told == []


def test_with_the_defaults_it_is_said_how_long_it_takes_and_train_does_not_wait_for_that(desk: Desk) -> None:
    desk.wait(lambda: "About" in desk.dock.cost.text())
    assert "to learn from" in desk.dock.cost.text() and "CPU" in desk.dock.cost.text()
    desk.wait(lambda: not desk.session.runner.tasks and "About" in desk.dock.plan.source.cost.text())
    desk.dock.plan.form.setValue({"steps": 299})
    desk.wait(lambda: any(isinstance(task.job, Estimate) for task in desk.session.runner.tasks))
    began = time.monotonic()
    desk.train()
    assert desk.steps and time.monotonic() - began < 10
    desk.stop()
    assert desk.told == []


def test_a_mask_painted_just_now_is_learned_from(viewer: Viewer, qtbot: QtBot, tmp_path: Path) -> None:
    from hands import Hands

    folder = write_eyes(tmp_path / "eyes")
    for path in sorted((folder / "masks").iterdir())[1:]:
        path.unlink()
    desk = Desk(viewer, qtbot).open(folder)
    desk.session.step(1)
    desk.wait(lambda: desk.session.case.name == "eye1")
    desk.dock.plan.masks._paint.click()
    desk.wait(lambda: desk.session.painter.case is not None)
    Hands(viewer).drag_pixels(desk.session.canvas.get("mask"), (20, 20), (20, 40))
    desk.train(**TINY, steps=2)
    desk.wait_until_over()
    assert desk.told == []
    summary = read_summary(folder / "runs" / "scratch")
    assert sorted(summary["training"]["cases"] + summary["cases"]) == ["eye0", "eye1"]
