"""The pictures of the docs, made anew: a real napari window on synthetic photographs, in mid-journey; and the demo.

make docs
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NAPARI_CONFIG"] = ""

import napari
from PIL import Image, ImageOps
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton, QTableWidget

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.phantoms import write_fundus
from napari_tlseg.data.run import read_summary
from napari_tlseg.gui.workbench import NAME, PLUGIN, open_workbench

IMAGES = Path(__file__).parent / "images"
THEMES = "dark", "light"
SIZE = 1360, 900
CASES, MASKS, SEED = 20, 12, 7
TILE = 300, 300
"""Of the demo's picture."""


def main() -> None:
    """All of them, in the order of the journey."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "eyes")
        write_fundus(folder, CASES, MASKS, seed=SEED)
        points = {case.name: case.click for case in read_dataset(folder)}
        (folder / "clicks.csv").unlink()
        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(*SIZE)
        open_workbench(viewer)
        bench: Any = viewer.window.dock_widgets[f"{NAME} ({PLUGIN})"]
        click(viewer, bench, folder, points)
        train(viewer, bench)
        review(viewer, bench)
        export(viewer, bench)
        viewer.close()
        demo(Path(name, "demo"))


def demo(out: Path) -> None:
    """The errors of three held-out cases of `make demo`: above from scratch, below from the clicks."""
    subprocess.run([sys.executable, "-m", "napari_tlseg.cli", "demo", "--out", str(out)], check=True)
    runs = [out / "runs" / name for name in ("scratch", "between")]
    cases = read_summary(runs[0])["cases"][:3]
    tiles = [[Image.open(run / "overlays" / f"{case}.png").convert("RGB") for case in cases] for run in runs]
    width, height = TILE
    sheet = Image.new("RGB", (width * len(cases), height * len(runs)))
    for row, tile_row in enumerate(tiles):
        for column, tile in enumerate(tile_row):
            picture_alone = tile.crop((0, 0, tile.width, tile.width))  # the legend is below it
            sheet.paste(ImageOps.fit(picture_alone, TILE), (width * column, height * row))
    sheet.save(IMAGES / "demo.jpg", quality=88, optimize=True)


def click(viewer: Any, bench: Any, folder: Path, points: dict[str, Any]) -> None:
    session = bench.widget(0).session
    session.open(folder)
    wait(lambda: session.case is not None and session.runner.greeting is not None)
    cases = list(session.dataset)
    for case in cases[:9]:
        session.clicks.set(case, points[case.name])
        QTest.qWait(1800)  # as fast as a person
    session.clicks_changed.emit()
    session.show(cases[8])
    picture(viewer, "click")
    for case in cases[9:]:
        session.clicks.set(case, points[case.name])
    session.clicks_changed.emit()


def train(viewer: Any, bench: Any) -> None:
    bench.setCurrentIndex(1)
    dock = bench.widget(1)
    dock.plan.source.form.setValue({"steps": 200, "size": 128})
    button(dock, "pretrain").click()
    wait(lambda: not dock.session.training)
    dock.plan.form.setValue({"steps": 150, "size": 128})
    button(dock, "train").click()
    wait(lambda: dock.session.training)
    heard: list[Any] = []
    dock.session.runner.tasks[-1].heard.connect(heard.append)
    wait(lambda: len(heard) > 90)
    dock.strength.setValue(0.1)
    wait(lambda: len(heard) > 115)
    picture(viewer, "train")
    wait(lambda: not dock.session.training)


def review(viewer: Any, bench: Any) -> None:
    bench.setCurrentIndex(2)
    dock = bench.widget(2)
    QTest.qWait(1000)
    dock.findChild(QTableWidget, "cases").setCurrentCell(0, 0)
    wait(lambda: dock.session.canvas.get("errors") is not None)
    picture(viewer, "review")


def export(viewer: Any, bench: Any) -> None:
    bench.setCurrentIndex(3)
    dock = bench.widget(3)
    QTest.qWait(500)
    button(dock, "export").click()
    wait(lambda: bool(dock.session.runner.tasks))
    wait(lambda: not dock.session.runner.tasks)
    picture(viewer, "export")


def picture(viewer: Any, name: str) -> None:
    """In every theme."""
    for theme in THEMES:
        viewer.theme = theme
        QTest.qWait(800)
        with tempfile.TemporaryDirectory() as folder:
            shot = Path(folder, "shot.png")
            viewer.screenshot(str(shot), canvas_only=False, flash=False)
            Image.open(shot).convert("RGB").save(IMAGES / f"{name}-{theme}.jpg", quality=85, optimize=True)
    viewer.theme = THEMES[0]
    QTest.qWait(300)


def button(dock: Any, name: str) -> Any:
    return dock.findChild(QPushButton, name)


def wait(holds: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        QTest.qWait(50)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    main()
