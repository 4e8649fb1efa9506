"""The review dock: it lists what the files of the runs say, shows their errors, and a click corrects one."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QPushButton, QTableWidget, QTabWidget, QWidget

from napari_tlseg.data.annotations import mask_path, read_mask
from napari_tlseg.data.case import Dataset
from napari_tlseg.data.crops import Crop, keep_crop
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.letterbox import Box
from napari_tlseg.data.overlay import FN, FP, Counts, confusion_map, confusion_planes, worst_plane
from napari_tlseg.data.tables import write_painted
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.gui.review.case_table import _row, judged, worst_first
from napari_tlseg.gui.review.dock import NO_FOLDER, NO_RUN, ReviewDock
from napari_tlseg.gui.review.legend import DASH
from napari_tlseg.gui.review.predictions import Found
from napari_tlseg.gui.runs import Run, runs_of
from napari_tlseg.gui.session import Session
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]
W = TypeVar("W", bound=QWidget)
SLOW = 60_000
"""Milliseconds until a worker that starts on a busy machine has predicted a case."""
BARE = "eye13"
"""The photograph without a mask; nothing was predicted in it."""


def train(root: Path, name: str, steps: int, **about: Any) -> None:
    job = Finetune(data=root, out=root / "runs" / name, steps=steps, size=32, batch=2, device="cpu", **about)
    list(job.run())


@pytest.fixture(scope="module")
def trained_eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, one of them without a mask, and two runs, the source of the later of which is the other."""
    root = write_eyes(tmp_path_factory.mktemp("data") / "eyes", 14)
    (root / "masks" / f"{BARE}.png").unlink()
    train(root, "scratch", 40)
    train(root, "near", 20, source=root / "runs" / "scratch", strength=0.5)
    return root


@pytest.fixture
def eyes(trained_eyes: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_eyes, tmp_path / "eyes")


@pytest.fixture(scope="module")
def trained_chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of three classes, with what the run finds in all of them."""
    root = write_chests(tmp_path_factory.mktemp("data") / "chests", 7)
    train(root, "first", 40)
    run = root / "runs" / "first"
    for case in read_dataset(root):
        if not mask_path(case, run / "masks").exists():
            list(Predict(data=(root,), cases=(case.name,), model=run, out=run / "masks").run())
    return root


@pytest.fixture
def chests(trained_chests: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_chests, tmp_path / "chests")


class Desk:
    """The dock as its user sees it."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.dock = ReviewDock(viewer)
        self.dock.setMinimumWidth(480)  # where the tables leave nothing out
        self.session: Session = self.dock.session
        self.tabs = QTabWidget()
        self.tabs.addTab(self.dock, "Review")
        self.tabs.addTab(QWidget(), "Other")
        viewer.window.add_dock_widget(self.tabs, name="Workbench")
        notification_manager.records.clear()

    @property
    def dataset(self) -> Dataset:
        assert self.session.dataset is not None
        return self.session.dataset

    def open(self, folder: Path) -> None:
        with self.qtbot.waitSignal(self.session.case_shown, timeout=10_000):
            self.session.open(folder)

    def part(self, kind: type[W], name: str) -> W:
        found = self.dock.findChild(kind, name)
        assert found is not None
        return found

    def words(self, name: str) -> str:
        """What a label says; nothing where it is hidden."""
        label = self.part(QLabel, name)
        return str(label.text()) if label.isVisible() else ""

    def click(self, name: str) -> None:
        button = self.part(QPushButton, name)
        assert button.isVisible() and button.isEnabled()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def table(self, name: str) -> list[list[str]]:
        table = self.part(QTableWidget, name)
        shown = [place for place in range(table.columnCount()) if not table.isColumnHidden(place)]
        return [[table.item(row, place).text() for place in shown] for row in range(table.rowCount())]

    def pick(self, name: str, text: str) -> None:
        """Click a row, by what stands in its first cell."""
        table = self.part(QTableWidget, name)
        (item,) = (found for found in table.findItems(text, Qt.MatchFlag.MatchExactly) if found.column() == 0)
        table.scrollToItem(item)
        place = table.visualItemRect(item).center()
        self.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)

    def look(self, case: str, run: str = "scratch", timeout: int = 5000) -> None:
        """Pick both, and wait for what is found."""
        if self.session.run is None or self.session.run.name != run:
            self.pick("runs", run)

        def told(found: Found) -> bool:
            return found.case.name == case

        with self.qtbot.waitSignal(self.dock.predictions.found, check_params_cb=told, timeout=timeout):
            self.pick("cases", case)

    def choose(self, name: str, text: str) -> None:
        choice = self.part(QComboBox, name)
        with self.qtbot.waitSignal(self.dock.predictions.found):
            choice.setCurrentIndex(choice.findText(text))

    def tick(self, name: str) -> None:
        box = self.part(QCheckBox, name)
        half = box.height() // 2
        self.qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(half, half))

    def layer(self, role: str) -> Any:
        layer = self.session.canvas.get(role)
        return layer if layer is not None and layer.visible else None

    def found_by(self, run: str, case: str) -> NDArray[np.uint8]:
        path = mask_path(self.dataset[case], self.dataset.folder / "runs" / run / "masks")
        return read_mask(self.dataset[case], len(self.dataset.classes), path)

    def truth(self, case: str) -> NDArray[np.uint8]:
        return read_mask(self.dataset[case], len(self.dataset.classes))

    def complaints(self) -> list[str]:
        return [record.message for record in notification_manager.records if record.severity.name == "ERROR"]


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot) -> Desk:
    return Desk(viewer, qtbot)


def summary(folder: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / run / "summary.json").read_text())
    return found


def scores(folder: Path, run: str) -> list[dict[str, str]]:
    with (folder / "runs" / run / "scores.csv").open(newline="") as text:
        return list(csv.DictReader(text))


def worst(folder: Path, run: str, part: str) -> str:
    dice = {row["case"]: float(row["dice"]) for row in scores(folder, run) if row["part"] == part}
    return min(dice, key=lambda case: dice[case])


def test_it_says_what_to_do_first(desk: Desk, tmp_path: Path) -> None:
    assert desk.words("next") == NO_FOLDER
    assert not desk.part(QTableWidget, "runs").isVisible()
    desk.open(write_eyes(tmp_path / "eyes", 2))
    assert desk.words("next") == NO_RUN
    assert desk.complaints() == []


def test_runs_come_with_their_validation_scores(desk: Desk, eyes: Path) -> None:
    killed = eyes / "runs" / "killed"
    killed.mkdir()
    for name in ("job.json", "model.safetensors"):
        shutil.copy2(eyes / "runs" / "scratch" / name, killed)
    desk.open(eyes)
    rows = {row[0]: row for row in desk.table("runs")}
    assert next(iter(rows)) == "near", "the latest comes first"
    assert rows["near"][1:3] == ["0.5", "scratch"] and rows["scratch"][1:3] == [DASH, "none"]
    for name in ("near", "scratch"):
        facts = summary(eyes, name)["validation"]
        assert rows[name][3].startswith(f"{facts['dice_mean']:.3f}") and rows[name][3].endswith("*")
        precision = facts["precision_mean"]
        assert rows[name][4] == (DASH if precision is None else f"{precision:.3f}")
    assert rows["killed"][3] == "not finished"
    assert "Too few to judge" in desk.words("few")
    assert desk.session.run is not None and desk.session.run.name == "near", "the latest is looked at"
    assert desk.part(QTableWidget, "runs").currentRow() == list(rows).index("near")


def test_held_out_scores_are_hidden_until_the_final_look(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.pick("runs", "scratch")
    held = {row["case"] for row in scores(eyes, "scratch") if row["part"] == "held-out"}
    dice = {row["case"]: float(row["dice"]) for row in scores(eyes, "scratch")}
    facts = summary(eyes, "scratch")

    def part(case: str) -> str:
        parts = {"training": facts["training"], "validation": facts["validation"], "held-out": facts}
        return next((part for part, each in parts.items() if case in each["cases"]), "not used")

    rows = desk.table("cases")
    assert {row[0]: row[1] for row in rows} == {case.name: part(case.name) for case in desk.dataset}
    assert {row[0]: row[2] for row in rows if row[0] in held} == dict.fromkeys(held, "hidden")
    judged_rows = sorted(sorted(set(dice) - held), key=lambda case: dice[case])
    assert [row[0] for row in rows[: len(judged_rows)]] == judged_rows, "the worst come first"
    assert [row[2] for row in rows if row[0] not in dice] == [""] * (len(rows) - len(dice))
    assert all(len(row) == 5 for row in desk.table("runs"))
    text = desk.dock.findChild(QCheckBox, "final").toolTip()
    assert "validation" in text and "once, at the end" in text
    desk.tick("final")
    rows = desk.table("cases")
    assert [row[0] for row in rows[: len(dice)]] == sorted(sorted(dice), key=lambda case: dice[case])
    assert {row[0]: row[2] for row in rows if row[0] in dice} == {case: f"{dice[case]:.3f}" for case in dice}
    assert all(row[5].startswith(f"{summary(eyes, row[0])['dice_mean']:.3f}") for row in desk.table("runs"))


def test_a_held_out_case_shows_no_errors_before_the_final_look(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    case = worst(eyes, "scratch", "held-out")
    desk.look(case)
    assert desk.layer("errors") is None and "final look" in desk.words("note")
    np.testing.assert_array_equal(desk.layer("found").data[None], desk.found_by("scratch", case))
    assert not desk.dock.panel.legend.isVisible()
    with desk.qtbot.waitSignal(desk.dock.predictions.found):
        desk.tick("final")
    expected = confusion_map(desk.truth(case), desk.found_by("scratch", case))
    np.testing.assert_array_equal(desk.layer("errors").data[None], expected)
    assert desk.layer("found") is None and desk.words("note") == ""


def test_cases_that_the_source_saw_are_marked(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.pick("runs", "near")
    seen = {row["case"] for row in scores(eyes, "near") if row["seen"] == "True"}
    assert seen and {row[0] for row in desk.table("cases") if row[1].endswith("seen")} == seen
    desk.pick("runs", "scratch")
    assert not [row for row in desk.table("cases") if row[1].endswith("seen")]


def test_worst_first_then_undefined_then_without_a_score(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(
        "case,part,class,dice,seen\na,validation,lung,0.9,False\na,validation,lesion,0.7,False\n"
        "b,validation,lung,,False\nc,held-out,lung,0.1,True\nd,validation,lung,0.3,False\n"
        "d,validation,lesion,,False\n"
    )
    facts = {"training": {"cases": ["t"]}, "validation": {"cases": ["a", "b", "d"]}, "cases": ["c"]}
    found = worst_first(judged(Run(tmp_path, facts), ["t", "a", "b", "c", "d", "x"], final=False))
    assert [(case.name, case.state) for case in found] == [
        *(("d", "scored"), ("a", "scored"), ("b", "undefined")),
        *(("t", "not scored"), ("c", "hidden"), ("x", "not scored")),
    ]
    assert found[1].dice == pytest.approx(0.8) and found[4].dice is None and found[5].part == "not used"
    final = worst_first(judged(Run(tmp_path, facts), ["a", "c", "d"], final=True))
    assert [case.name for case in final] == ["c", "d", "a"]
    killed = worst_first(judged(Run(tmp_path), ["c", "d", "x"], final=False))
    assert [(case.name, case.state) for case in killed] == [("d", "scored"), ("c", "hidden"), ("x", "not scored")]


def test_a_doubtful_case_is_marked_and_says_why(tmp_path: Path) -> None:
    header = "case,part,class,dice,seen,focus,doubt\n"
    why = "the localizer is unsure"
    rows = f"a,validation,disc,0.9,False,localizer,{why}\nb,held-out,disc,0.8,False,localizer,\n"
    (tmp_path / "scores.csv").write_text(header + rows)
    found = {case.name: case for case in judged(Run(tmp_path), ["a", "b"], final=True)}
    assert (found["a"].doubt, found["b"].doubt) == (why, "")
    marked, plain = (_row(found[name]) for name in "ab")
    assert marked.cells[1] == "validation · doubtful" and marked.tips[1].endswith(f"Look at it: {why}.")
    assert plain.cells[1] == "held-out"


def test_errors_of_a_photograph_are_those_of_the_files(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    case = worst(eyes, "scratch", "validation")
    desk.look(case)
    layer, truth, found = desk.layer("errors"), desk.truth(case), desk.found_by("scratch", case)
    np.testing.assert_array_equal(layer.data[None], confusion_map(truth, found))
    assert desk.session.case.name == case and layer.name == f"errors: {case}"
    counts = Counts.of(confusion_map(truth, found))
    dice = next(float(row["dice"]) for row in scores(eyes, "scratch") if row["case"] == case)
    assert counts.dice == pytest.approx(dice)
    texts = [label.text() for label in desk.dock.panel.legend.findChildren(QLabel) if label.isVisible()]
    assert {f"{counts.tp:,}", f"{counts.fp:,}", f"{counts.fn:,}", f"{dice:.3f}"} <= set(texts)
    boxes = [box for box in desk.dock.panel.legend.findChildren(QCheckBox) if box.text().startswith("TP")]
    boxes[0].click()
    assert layer.colormap.map(np.array([3], np.uint8))[0, 3] == 0, "true positives are not seen any more"
    table = desk.part(QTableWidget, "cases")
    with desk.qtbot.waitSignal(desk.session.case_shown):
        desk.qtbot.keyClick(table, Qt.Key.Key_Down)
    assert desk.session.case.name == desk.table("cases")[1][0], "keys pick too"


def test_the_last_case_that_was_picked_is_shown(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.tick("final")
    names = [row[0] for row in desk.table("cases") if row[2]]
    desk.pick("runs", "scratch")
    for name in names:
        desk.session.show(desk.dataset[name])
    desk.qtbot.waitUntil(lambda: desk.layer("errors") is not None and desk.session.case.name == names[-1])
    desk.qtbot.wait(200)
    expected = confusion_map(desk.truth(names[-1]), desk.found_by("scratch", names[-1]))
    np.testing.assert_array_equal(desk.layer("errors").data[None], expected)
    table = desk.part(QTableWidget, "cases")
    assert table.item(table.currentRow(), 0).text() == names[-1], "picked elsewhere, marked here"


def test_a_case_without_a_mask_shows_the_prediction_alone(desk: Desk, eyes: Path) -> None:
    case = read_dataset(eyes)[BARE]
    folder = eyes / "runs" / "scratch" / "masks"
    shutil.copy2(next(folder.glob("*.png")), mask_path(case, folder))
    desk.open(eyes)
    desk.look(BARE)
    np.testing.assert_array_equal(desk.layer("found").data[None], desk.found_by("scratch", BARE))
    assert desk.layer("errors") is None and "no mask of this case" in desk.words("note")
    desk.look(worst(eyes, "scratch", "validation"))
    assert desk.layer("found") is None and desk.layer("errors") is not None


def test_it_says_that_a_prediction_waits_for_the_training(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.pick("runs", "scratch")
    desk.pick("cases", BARE)
    desk.qtbot.waitUntil(lambda: desk.words("state") == f"Predicting {BARE} …")
    (task,) = desk.session.runner.tasks
    run = eyes / "runs" / "scratch"
    assert task.job == Predict(data=(eyes,), cases=(BARE,), model=run, out=run / "masks", unreadable="skip")
    desk.session.runner.submit(Finetune(data=eyes, out=eyes / "runs" / "next"))
    training = next(iter(summary(eyes, "scratch")["training"]["cases"]))
    desk.pick("cases", training)
    desk.qtbot.waitUntil(lambda: "A training runs" in desk.words("state"))
    assert desk.layer("errors") is None and not desk.part(QPushButton, "edit").isEnabled()


def test_where_two_runs_differ(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    case = worst(eyes, "scratch", "validation")
    desk.look(case)
    desk.choose("compare", "near")
    desk.choose("way", "Where they differ")
    a, b = desk.found_by("scratch", case), desk.found_by("near", case)
    assert (a != b).any()
    layer = desk.layer("errors")
    np.testing.assert_array_equal(layer.data[None], confusion_map(b, a))
    assert (layer.data[None][(a == 1) & (b == 0)] == FP).all() and (layer.data[None][(a == 0) & (b == 1)] == FN).all()
    boxes = {box.text() for box in desk.dock.panel.legend.findChildren(QCheckBox)}
    assert {"both", "only A", "only B"} <= boxes
    assert desk.words("note") == "A is scratch, B is near."
    desk.choose("compare", "none")
    np.testing.assert_array_equal(desk.layer("errors").data[None], confusion_map(desk.truth(case), a))


def test_side_by_side_and_back(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    viewer, grid = desk.viewer, desk.viewer.canvas.grid
    mine = viewer.add_points([[5, 5]], name="mine")
    grid.spacing, grid.stride = 0.1, 2
    before = grid.model_dump()
    case = worst(eyes, "scratch", "validation")
    desk.look(case)
    desk.choose("compare", "near")
    truth = desk.truth(case)
    np.testing.assert_array_equal(desk.layer("errors").data[None], confusion_map(truth, desk.found_by("scratch", case)))
    np.testing.assert_array_equal(desk.layer("errors B").data[None], confusion_map(truth, desk.found_by("near", case)))
    layers = viewer.layers

    def place(layer: Any) -> tuple[int, int]:
        return grid.position(layers.index(layer), layers)

    assert {place(layer) for layer in (desk.session.image, desk.layer("errors"), mine)} == {(0, 0)}
    assert {place(desk.layer(role)) for role in ("image B", "errors B")} == {(0, 1)}
    assert np.shares_memory(desk.layer("image B").data, desk.session.image.data)
    desk.session.image.contrast_limits = (10, 90)
    assert desk.layer("image B").contrast_limits == [10, 90], "both are seen in the same window"
    later = viewer.add_shapes(name="later")
    assert place(later) == (0, 0) and place(desk.layer("errors B")) == (0, 1)
    assert desk.words("note").startswith("Left: A, scratch. Right: B, near. The counts are of A; Dice of B: ")
    other = next(row[0] for row in desk.table("cases") if row[0] != case and row[2])
    desk.look(other)
    assert {place(desk.layer(role)) for role in ("image B", "errors B")} == {(0, 1)}
    desk.choose("compare", "none")
    assert grid.model_dump() == before
    assert desk.session.canvas.get("image B") is None and desk.session.canvas.get("errors B") is None
    assert mine in layers and later in layers and mine.visible


def test_deleting_the_second_view_ends_it(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.look(worst(eyes, "scratch", "validation"))
    desk.choose("compare", "near")
    desk.viewer.layers.remove(desk.layer("image B"))
    assert not desk.viewer.canvas.grid.enabled and desk.session.canvas.get("errors B") is None
    desk.viewer.layers.remove(desk.layer("errors"))
    desk.dock.panel.legend.findChildren(QCheckBox)[0].click()
    desk.viewer.layers.remove(desk.session.image)
    desk.look(worst(eyes, "scratch", "held-out"))
    assert desk.layer("found") is not None and desk.complaints() == []


def test_a_prediction_becomes_the_mask_in_one_step(desk: Desk, eyes: Path) -> None:
    case = read_dataset(eyes)[BARE]
    folder = eyes / "runs" / "scratch" / "masks"
    shutil.copy2(next(folder.glob("*.png")), mask_path(case, folder))
    desk.open(eyes)
    desk.look(BARE)
    found = desk.found_by("scratch", BARE)
    assert found.any()
    with desk.qtbot.waitSignal(desk.session.masks_changed):
        desk.click("edit")
    np.testing.assert_array_equal(read_mask(desk.dataset[BARE], 2), found)
    assert desk.dataset[BARE].mask == eyes / "masks" / f"{BARE}.png"
    assert desk.layer("found") is None and desk.layer("errors") is None, "nothing lies over what is painted"
    layer = desk.layer("mask")
    assert desk.viewer.layers.selection.active is layer and layer.mode == "paint"
    layer.data_setitem((np.array([0, 1]), np.array([0, 1])), 1)
    with desk.qtbot.waitSignal(desk.dock.predictions.found):
        desk.click("done")
    desk.qtbot.waitUntil(lambda: read_mask(desk.dataset[BARE], 2)[0, 0, 0] == 1)
    assert desk.words("edit_words").startswith(f"{BARE} has a mask now.")
    desk.qtbot.waitUntil(lambda: desk.layer("errors") is not None and desk.layer("errors").data[0, 0] == FN)
    assert desk.complaints() == []


def test_a_mask_that_is_there_is_asked_for(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    case = worst(eyes, "scratch", "validation")
    desk.look(case)
    truth = desk.truth(case)
    desk.click("edit")
    assert f"{case} has a mask already." in desk.words("edit_words") and desk.session.painter.case is None
    desk.click("cancel")
    assert desk.words("edit_words") == "" and desk.part(QPushButton, "edit").isVisible()
    desk.click("edit")
    with desk.qtbot.waitSignal(desk.session.painter.began):
        desk.click("correct")
    np.testing.assert_array_equal(desk.layer("mask").data[None], truth)
    assert "stays one" in desk.words("edit_words"), "a validation case"
    desk.click("done")
    desk.qtbot.waitUntil(lambda: desk.layer("errors") is not None)
    desk.click("edit")
    with desk.qtbot.waitSignal(desk.session.painter.saved):
        desk.click("replace")
    np.testing.assert_array_equal(desk.truth(case), desk.found_by("scratch", case))


def test_a_volume_begins_at_its_worst_plane_and_follows_the_slice(desk: Desk, chests: Path) -> None:
    desk.open(chests)
    name = worst(chests, "first", "validation")
    case = desk.dataset[name]
    found = desk.found_by("first", name)
    truth = desk.truth(name)
    truth[1] = 3 - truth[1]  # so that the middle one is the worst
    truth[1][truth[1] == 3] = 0
    from napari_tlseg.data.annotations import write_mask

    write_mask(case, truth, chests / "masks", 3)
    desk.look(name, "first")
    confusion, counts = confusion_planes(truth, found)
    np.testing.assert_array_equal(desk.layer("errors").data, confusion)
    assert desk.session.plane() == worst_plane(confusion)
    for plane in range(len(truth)):
        desk.session.show_plane(plane)
        texts = [label.text() for label in desk.dock.panel.legend.findChildren(QLabel) if label.isVisible()]
        assert f"{counts[plane].fn:,}" in texts and f"{counts[plane].tp:,}" in texts
    classes = desk.dock.panel.legend.findChildren(QComboBox)[0]
    assert [classes.itemText(row) for row in range(classes.count())] == ["lung", "infection"]
    classes.setCurrentIndex(1)
    np.testing.assert_array_equal(desk.layer("errors").data, confusion_map(truth, found, 2))


def test_only_painted_planes_are_judged(desk: Desk, chests: Path) -> None:
    name = worst(chests, "first", "validation")
    case = read_dataset(chests)[name]
    write_painted(chests, {case.key: [case.geometry.stored_plane(2)]})
    desk.open(chests)
    desk.look(name, "first")
    assert desk.session.plane() == 2
    np.testing.assert_array_equal(
        desk.layer("errors").data[2], confusion_map(desk.truth(name), desk.found_by("first", name))[2]
    )
    assert not desk.layer("errors").data[:2].any()


def test_of_a_volume_only_slices_count_that_the_user_ticks(desk: Desk, chests: Path) -> None:
    name = next(iter(summary(chests, "first")["training"]["cases"]))
    next((chests / "masks").glob(f"{name}.*")).unlink()
    desk.open(chests)
    desk.look(name, "first")
    desk.session.show_plane(1)
    with desk.qtbot.waitSignal(desk.session.painter.began):
        desk.click("edit")
    desk.qtbot.waitUntil(lambda: desk.session.painter.planes == {1})
    assert desk.part(QCheckBox, "right").isChecked()
    desk.session.show_plane(0)
    assert not desk.part(QCheckBox, "right").isChecked()
    desk.tick("right")
    assert desk.session.painter.planes == {0, 1}
    with desk.qtbot.waitSignal(desk.session.masks_changed):
        desk.click("done")
    desk.qtbot.waitUntil(lambda: desk.dataset[name].painted == (0, 1))
    np.testing.assert_array_equal(desk.truth(name), desk.found_by("first", name))
    assert "Train can go on from here" in desk.words("edit_words")


def test_behind_another_tab_it_leaves_the_canvas_alone(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    validation = [row["case"] for row in scores(eyes, "scratch") if row["part"] == "validation"]
    desk.look(validation[0])
    desk.choose("compare", "near")
    desk.tabs.setCurrentIndex(1)
    assert [layer.name for layer in desk.viewer.layers] == [validation[0]]
    assert not desk.viewer.canvas.grid.enabled
    other = desk.dataset["eye0"]
    with desk.qtbot.waitSignal(desk.session.case_shown):
        desk.session.show(other)
    desk.qtbot.wait(100)
    assert [layer.name for layer in desk.viewer.layers] == ["eye0"] and desk.session.runner.tasks == []
    with desk.qtbot.waitSignal(desk.session.case_shown):
        desk.session.show(desk.dataset[validation[0]])
    with desk.qtbot.waitSignal(desk.dock.predictions.found):
        desk.tabs.setCurrentIndex(0)
    assert desk.layer("errors") is not None and desk.layer("errors B") is not None


def test_painting_elsewhere_hides_the_errors(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.look(worst(eyes, "scratch", "validation"))
    with desk.qtbot.waitSignal(desk.session.painter.began):
        desk.session.painter.begin()
    assert desk.layer("errors") is None and not desk.dock.panel.legend.isVisible()
    desk.session.painter.leave()
    desk.qtbot.waitUntil(lambda: desk.layer("errors") is not None)
    assert desk.dock.panel.legend.isVisible()


def test_what_is_broken_is_one_sentence(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    case = worst(eyes, "scratch", "validation")
    desk.look(case)
    broken = eyes / "runs" / "scratch" / "masks" / f"{case}.png"
    broken.write_bytes(b"no picture")
    desk.look(worst(eyes, "scratch", "held-out"))
    desk.pick("cases", case)
    desk.qtbot.waitUntil(lambda: len(desk.complaints()) == 1)
    assert str(broken) in desk.complaints()[0] and "delete it" in desk.complaints()[0]
    assert desk.layer("errors") is None and desk.layer("found") is None and desk.words("state") == ""
    shutil.rmtree(eyes / "runs" / "near")
    desk.pick("runs", "near")
    assert len(desk.complaints()) == 2 and "no longer there" in desk.complaints()[1]
    assert [row[0] for row in desk.table("runs")] == ["scratch"]
    (eyes / "runs" / "scratch" / "scores.csv").write_text("rubbish\n1,2\n")
    desk.pick("runs", "scratch")
    assert len(desk.complaints()) == 3 and "scores.csv" in desk.complaints()[2]


def test_a_broken_table_of_scores_is_named(tmp_path: Path) -> None:
    from napari_tlseg.errors import InputError

    for content in (b"case,part\na,b\n", b"case,part,class,dice\na,b,c,much\n", b"case,part,class,dice\n\xff\xfe,,,\n"):
        (tmp_path / "scores.csv").write_bytes(content)
        with pytest.raises(InputError, match="is not the table of scores"):
            _ = Run(tmp_path).scores
    assert runs_of(tmp_path) == []


@pytest.mark.slow
class TestWorker:
    """With the real worker process."""

    @pytest.fixture(autouse=True)
    def idle_worker(self, lent_worker: None) -> None: ...

    def test_a_case_without_a_prediction_gets_one(self, desk: Desk, eyes: Path, tmp_path: Path) -> None:
        list(Predict(data=(eyes,), cases=(BARE,), model=eyes / "runs" / "scratch", out=tmp_path / "out").run())
        desk.open(eyes)
        desk.look(BARE, timeout=SLOW)
        expected = read_mask(desk.dataset[BARE], 2, tmp_path / "out" / f"{BARE}.png")
        np.testing.assert_array_equal(desk.layer("found").data[None], expected)
        np.testing.assert_array_equal(desk.found_by("scratch", BARE), expected)
        assert desk.words("state") == "" and desk.complaints() == []


def test_what_was_looked_at_is_a_box_that_follows_the_case(desk: Desk, eyes: Path) -> None:
    masks = eyes / "runs" / "scratch" / "masks"
    whole, *cropped = [read_dataset(eyes)[path.stem] for path in sorted(masks.glob("*.png"))[:3]]
    for number, case in enumerate(cropped):
        keep_crop(masks, case, Crop(planes=range(1), box=Box(number - 4, 10, 20, 20)))
    mine = desk.viewer.add_shapes([[[0, 0], [5, 5]]], shape_type="rectangle", name="what was looked at")
    desk.open(eyes)
    desk.part(QCheckBox, "final").click()
    tick = desk.part(QCheckBox, "crop")

    def box() -> Any:
        return desk.session.canvas.get("crop")

    for number, case in enumerate(cropped):
        desk.look(case.name)
        assert box().translate.tolist() == [number - 4, 10] and box().data.shape == (20, 20)
        assert box().data[0].all() and box().data[:, -1].all() and not box().data[1:-1, 1:-1].any()
    assert tick.isVisible()
    desk.qtbot.mouseClick(tick, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert box() is None
    desk.qtbot.mouseClick(tick, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert box() is not None
    desk.look(whole.name)
    assert box() is None and not tick.isVisible(), "of this one all was looked at"
    desk.look(cropped[0].name)
    desk.tabs.setCurrentIndex(1)
    assert box() is None
    assert mine in desk.viewer.layers and len(mine.data) == 1


def test_of_a_volume_the_box_is_in_the_slices_that_were_looked_at(desk: Desk, chests: Path) -> None:
    case = read_dataset(chests).cases[0]
    keep_crop(chests / "runs" / "first" / "masks", case, Crop(planes=range(1, 3), box=Box(5, 6, 10, 10)))
    desk.open(chests)
    desk.part(QCheckBox, "final").click()
    desk.look(case.name, "first")
    layer = desk.session.canvas.get("crop")
    assert layer.data.shape == (2, 10, 10)
    offset = (layer.translate - desk.session.image.translate) / layer.scale
    np.testing.assert_allclose(offset, (1, 5, 6), atol=1e-9)
    assert layer.scale.tolist() == desk.session.image.scale.tolist()
