"""What transfer is worth, in the window: λ recommended and taken over, stopped and gone on with; label efficiency."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from desk import TINY, Desk
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_tlseg.cli import main
from napari_tlseg.data.run import read_json, read_summary
from napari_tlseg.events import Stepped
from napari_tlseg.gui.runs import StudyRun, studies_of
from napari_tlseg.gui.train.study_box import StudyBox, said
from napari_tlseg.gui.widgets.strength import LAST, tick_of
from napari_tlseg.studies.jobs import Crossval, Efficiency
from tiny import FAST, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window
LEFT = Qt.MouseButton.LeftButton
SOURCE = Path("clicks.safetensors")


@pytest.fixture
def box(qtbot: QtBot) -> StudyBox:
    made = StudyBox()
    qtbot.addWidget(made)
    made.show()
    return made


def study(kind: str, summary: dict[str, Any], **record: Any) -> StudyRun:
    return StudyRun(Path(f"clicks-{kind}"), {"job": kind, "source": str(SOURCE), **record}, summary)


def arm(strength: float | str | None, dice: float) -> dict[str, Any]:
    return {"lambda": strength, "dice_mean": dice, "dice_se": 0.02}


ARMS = [arm("inf", 0.7), arm(0.01, 0.9), arm(0.0, 0.8), arm(None, 0.6)]
FOUND = {"arms": ARMS, "trials": 4, "of": 4, "recommended": "0.01", "words": "Take λ = 0.01."}


def line(item: Any) -> list[tuple[float, float]]:
    return list(zip(*map(np.ndarray.tolist, item.getData()), strict=True))


def test_a_recommendation_is_drawn_with_its_spread_and_can_be_used(box: StudyBox, qtbot: QtBot) -> None:
    assert box.curve.isHidden() and box._use.isHidden() and box.words["crossval"].isHidden()
    box.setStudies([study("crossval", {}), study("crossval", FOUND)], SOURCE)
    assert line(box.curve._line) == [(0, 0.8), (tick_of(0.01), 0.9), (LAST, 0.7)]
    assert box.curve._spread.opts["height"] == pytest.approx([0.04] * 3), "one standard error both ways"
    assert line(box.curve._second) == [(0, 0.6), (LAST, 0.6)], "without the source"
    assert line(box.curve._best) == [(tick_of(0.01), 0.9)] and box.words["crossval"].text() == "Take λ = 0.01."
    with qtbot.waitSignal(box.used) as used:
        QTest.mouseClick(box._use, LEFT)
    assert used.args == [0.01] and box._use.text() == "Use λ = 0.01"
    box.setStudies([study("crossval", FOUND)], "none")
    assert box.curve.isHidden(), "of another source"


@pytest.mark.parametrize(("name", "strength"), [("∞", math.inf), ("0", 0.0), ("no source", None)])
def test_the_ends_and_no_source_can_be_used_too(box: StudyBox, name: str, strength: float | None) -> None:
    box.setStudies([study("crossval", {**FOUND, "recommended": name})], SOURCE)
    assert box._found == strength and box._use.isVisible()
    assert box._use.text() == ("Train without a source" if strength is None else f"Use λ = {name}")


def test_a_study_that_was_stopped_says_how_far_it_is(box: StudyBox) -> None:
    begun = study("crossval", {"arms": ARMS[:1], "trials": 1, "of": 4})
    box.setStudies([begun], SOURCE)
    assert box.words["crossval"].text() == said(begun) and "1 of 4" in said(begun) and box._use.isHidden()


def test_label_efficiency_is_drawn_against_the_number_of_masks(box: StudyBox) -> None:
    rows = [
        {"source": source, "masks": masks, "dice_mean": dice, "dice_se": 0.01}
        for source, masks, dice in (("none", 8, 0.7), ("none", 4, 0.5), ("clicks", 4, 0.6), ("clicks", 8, 0.8))
    ]
    found = {"efficiency": rows, "trials": 8, "of": 8, "words": "10 more masks would likely bring +0.1"}
    box.setStudies([study("efficiency", found, source="none", sources=["none", str(SOURCE)])], SOURCE)
    assert line(box.masks._line) == [(1, 0.6), (2, 0.8)] and line(box.masks._second) == [(1, 0.5), (2, 0.7)]
    assert box.words["efficiency"].text() == found["words"] and box.curve.isHidden()


@pytest.mark.slow
@pytest.mark.usefixtures("lent_worker")
def test_lambda_is_recommended_by_the_worker_and_label_efficiency_is_counted(
    viewer: Viewer, qtbot: QtBot, tmp_path: Path
) -> None:
    root = write_eyes(tmp_path / "eyes", 12)
    source = root / "sources" / "clicks.safetensors"
    source.parent.mkdir()
    assert main(["pretrain", str(root), "--out", str(source), *FAST]) == 0
    viewer.window._qt_window.resize(1200, 980)
    desk = Desk(viewer, qtbot).open(root)
    dock, box = desk.dock, desk.dock.plan.studies
    dock.plan.source.setValue(source)
    dock.plan.form.setValue({**TINY, "steps": 2})
    box.form.setValue({"folds": 2, "warm": 0.5})
    dock.plan.worth.set_open(True)
    qtbot.waitUntil(lambda: box._count.visibleRegion().boundingRect().height() == box._count.height())
    QTest.mouseClick(box._recommend, LEFT)
    desk.wait(lambda: any(isinstance(event, Stepped) for event in desk.heard))
    assert not dock.strength.isEnabled() and not box._recommend.isEnabled() and dock.course.progress.isVisible()
    desk.wait(lambda: any((root / "runs").glob("*/trials/*.json")))
    desk.stop()
    (begun,) = studies_of(root)
    assert begun.path == root / "runs" / "clicks-crossval" and begun.summary["trials"] < 4
    assert "the same button goes on" in box.words["crossval"].text()
    done = {path: path.stat().st_mtime_ns for path in begun.path.glob("trials/*.json")}
    QTest.mouseClick(box._recommend, LEFT)
    desk.wait(lambda: read_summary(begun.path)["trials"] == 4 and not desk.session.training)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items()), "what was done is not done again"
    summary = read_summary(begun.path)
    assert box.words["crossval"].text() == summary["words"]
    assert read_json(begun.path / "job.json")["folds"] == 2 and desk.session.run is None, "a study is no run"
    dock.strength.setValue(1.0)
    box._found = 0.01
    QTest.mouseClick(box._use, LEFT)
    assert dock.strength.value() == 0.01
    dock.plan.form.setValue({"steps": 1})
    assert dock.plan.study(Crossval).out.name == "clicks-crossval-2", "another study has another folder"
    QTest.mouseClick(box._count, LEFT)
    desk.wait(lambda: bool(box.words["efficiency"].text()))
    (counted,) = [each for each in studies_of(root) if each.record["job"] == "efficiency"]
    assert {row["source"] for row in counted.summary["efficiency"]} == {"none", "clicks"}
    assert box.masks.isVisible() and box.words["efficiency"].text() == counted.summary["words"]
    assert dock.plan.study(Efficiency).out == counted.path and desk.told == []
