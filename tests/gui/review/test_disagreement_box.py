"""Where the λ of a path disagree, in the window: with a real worker, over photographs and a volume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QTableWidget

from napari_tlseg.cli import main
from napari_tlseg.data.disagreement import Disagreements
from napari_tlseg.gui.review.disagreement_box import COLOURS, ROLE
from napari_tlseg.gui.review.dock import ReviewDock
from napari_tlseg.studies.jobs import Disagree
from tiny import FAST, write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow, pytest.mark.usefixtures("lent_worker")]
STEPS = ("--steps", "30", "--warm", "0.5", "--size", "32", "--batch", "4", "--device", "cpu", "--precision", "float32")
BARE = "eye7"
LEFT = Qt.MouseButton.LeftButton
SLOW = 120_000
"""Milliseconds until a worker that starts on a busy machine has answered."""


def make_path(root: Path, steps: tuple[str, ...] = STEPS) -> Path:
    source = root / "clicks.safetensors"
    assert main(["pretrain", str(root), "--out", str(source), *FAST]) == 0
    out = ["--out", str(root / "runs" / "walk"), "--lambdas", "inf,0.01,0"]
    assert main(["path", str(root), "--source", str(source), *out, *steps]) == 0
    return root


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("data") / "eyes", 8)
    (root / "masks" / f"{BARE}.png").unlink()
    parts = ["training"] * 5 + ["validation", "held-out", "training"]
    (root / "split.csv").write_text(
        "\n".join(["case,part", *(f"eye{n},{part}" for n, part in enumerate(parts))]) + "\n"
    )
    make_path(root)
    assert main(["finetune", str(root), "--out", str(root / "runs" / "plain"), *FAST]) == 0
    return root


class Desk:
    def __init__(self, viewer: Viewer, qtbot: QtBot, folder: Path) -> None:
        viewer.window._qt_window.resize(1200, 980)
        self.dock = ReviewDock(viewer)
        self.session, self.box, self.qtbot = self.dock.session, self.dock.disagreement, qtbot
        viewer.window.add_dock_widget(self.dock, name="Review")
        notification_manager.records.clear()
        with qtbot.waitSignal(self.session.case_shown, timeout=SLOW):
            self.session.open(folder)

    def wait(self, holds: object) -> None:
        self.qtbot.waitUntil(holds, timeout=SLOW)

    def look(self, run: str, case: str) -> None:
        self.session.show_run(self.session.folder / "runs" / run)
        self.session.show(self.session.dataset[case])
        self.wait(lambda: self.session.case.name == case)

    def tick(self) -> None:
        half = self.box._show.height() // 2
        QTest.mouseClick(self.box._show, LEFT, pos=QPoint(half, half))

    @property
    def layer(self) -> Image | None:
        return self.session.canvas.get(ROLE)

    def shown(self, case: str) -> Image:
        self.wait(lambda: self.layer is not None and self.layer.name.endswith(f": {case}"))
        return self.layer

    def column(self, place: int) -> list[str]:
        table: QTableWidget = self.dock.cases
        return [] if table.isColumnHidden(place) else [table.item(row, place).text() for row in range(table.rowCount())]


def test_the_map_follows_the_case_and_all_cases_are_ranked(
    viewer: Viewer, qtbot: QtBot, walked: Path, tmp_path: Path
) -> None:
    eyes = shutil.copytree(walked, tmp_path / "eyes")
    desk, kept = Desk(viewer, qtbot, eyes), Disagreements(eyes / "runs" / "walk")
    desk.look("plain", "eye1")
    assert not desk.box.isVisible() and desk.column(3) == [], "a run without a path has none"
    desk.look("walk", "eye1")
    assert desk.box.isVisible() and desk.layer is None
    desk.tick()
    layer = desk.shown("eye1")
    np.testing.assert_array_equal(layer.data, kept.read_map(desk.session.dataset["eye1"])[0])
    np.testing.assert_allclose(layer.data_to_world((3, 5)), desk.session.image.data_to_world((3, 5)))
    assert layer.colormap.name == COLOURS.name and layer.colormap.colors[[0, -1], 3].tolist() == [0, 1]
    assert "In eye1 the λ " in desk.box._words.text()
    desk.look("walk", BARE)
    assert (desk.shown(BARE).data == kept.read_map(desk.session.dataset[BARE])[0]).all()
    QTest.mouseClick(desk.box._rank, LEFT)
    assert not desk.box._rank.isEnabled() and desk.box.progress.isVisible()
    desk.wait(lambda: desk.box._rank.isEnabled())
    found = kept.read()
    assert set(desk.column(0)) == set(found) and len(found) == 8
    assert desk.column(3) == ["" if value is None else f"{value:.0%}" for value in found.values()], "the most first"
    assert desk.box._words.text().endswith(f"The next mask to draw: {BARE}.") and desk.box._rank.isEnabled()
    head = desk.dock.cases.horizontalHeader()
    QTest.mouseClick(head.viewport(), LEFT, pos=QPoint(head.sectionViewportPosition(2) + 5, head.height() // 2))
    dice = [float(text) for text in desk.column(2) if text not in ("", "hidden", "–")]
    assert dice == sorted(dice), "the worst first again"
    desk.tick()
    assert desk.layer is None
    assert not [record for record in notification_manager.records if record.severity.name == "ERROR"]


def test_a_volume_has_a_map_of_all_its_slices_and_a_hidden_dock_has_none(
    viewer: Viewer, qtbot: QtBot, tmp_path: Path
) -> None:
    root = write_chests(tmp_path / "chests")
    clicks = ["image,z,y,x", *(f"chest{n}.nii.gz,1,20,20" for n in range(6))]
    (root / "clicks.csv").write_text("\n".join(clicks) + "\n")
    make_path(root, FAST)
    assert [*Disagree(data=root, model=root / "runs" / "walk", cases=("chest1",)).run()]
    desk = Desk(viewer, qtbot, root)
    desk.look("walk", "chest1")
    desk.tick()
    layer, image = desk.shown("chest1"), desk.session.image
    assert layer.data.shape == image.data.shape == (3, 48, 64)
    np.testing.assert_allclose(layer.data_to_world((2, 3, 5)), image.data_to_world((2, 3, 5)))
    desk.dock.hide()
    assert desk.layer is None
