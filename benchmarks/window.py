"""The journey through the window on real images, held against the same journey without one.

Photographs are clicked on the canvas of a real napari window, where a table says that their targets lie; the Train
dock pretrains and fine-tunes, the Export dock writes masks. Then the same jobs run from the command line, on the clicks
that the window wrote, with the same seed: weights, masks and scores must be equal.

    xvfb-run -s "-screen 0 1280x1024x24" python benchmarks/window.py --clicks fundus_hei_med --target fundus_drions_db
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NAPARI_CONFIG"] = ""
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "gui"))

import tyro
from hands import Hands
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit, QPushButton

from napari_tlseg.data.files import write_text
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.project import link


@dataclass(frozen=True, kw_only=True)
class Settings:
    clicks: Path
    """A dataset folder with clicks.csv: where the mouse goes."""
    target: Path
    """A dataset folder with masks."""
    count: int = 30
    """Photographs to click."""
    pretrain_steps: int = 200
    steps: int = 150
    labels: int = 20
    size: int = 192
    batch: int = 4
    seed: int = 0
    out: Path | None = None


def main(settings: Settings) -> None:
    """Both journeys, and their comparison."""
    with tempfile.TemporaryDirectory(prefix="journey-") as name:
        clicked, target = Path(name, "clicked"), Path(name, "target")
        copy(settings.clicks, clicked, settings.count)
        copy(settings.target, target)
        places = {case.name: case.click for case in read_dataset(settings.clicks)}
        windowed = through_the_window(settings, clicked, target, places)
        plain = headless(settings, clicked, target)
        report = {"window": windowed, "headless": plain, "equal": windowed["scores"] == plain["scores"]}
        report["same source"] = windowed["source_sha256"] == plain["source_sha256"]
        report["same masks"] = all(
            (target / "exports" / each.name).read_bytes() == each.read_bytes() for each in plain.pop("files")
        )
        print(json.dumps(report, indent=1))
        if settings.out:
            write_text(settings.out, json.dumps(report) + "\n")


def copy(source: Path, folder: Path, count: int | None = None) -> None:
    """A dataset folder of links, with its masks but no clicks."""
    (folder / "images").mkdir(parents=True)
    for path in sorted((source / "images").iterdir())[:count]:
        link(path, folder / "images" / path.name)
    for name in ("dataset.toml", "masks"):
        if (source / name).exists():
            link(source / name, folder / name)


def through_the_window(settings: Settings, clicked: Path, target: Path, places: dict[str, Any]) -> dict[str, Any]:
    import napari

    from napari_tlseg.gui.workbench import Workbench

    viewer = napari.Viewer(show=True)
    bench: Any = Workbench(viewer)
    viewer.window.add_dock_widget(bench)
    _, train, _, export = (bench.widget(index) for index in range(4))
    session, hands = train.session, Hands(viewer)
    session.open(clicked)
    wait(lambda: session.case is not None and session.runner.greeting is not None)
    began = time.monotonic()
    while (case := session.case) and session.clicks[case] is None:
        QTest.qWait(50)
        hands.click(session.image, *places[case.name])
        wait(lambda case=case: session.case is not case or len(session.clicks) == settings.count)
    pace = 60 * settings.count / (time.monotonic() - began)
    common = {"size": settings.size, "batch": settings.batch, "seed": settings.seed}
    train.plan.source.form.setValue({**common, "steps": settings.pretrain_steps})
    press(train, "pretrain")
    wait(lambda: bool(session.runner.tasks))
    wait(lambda: not session.training)
    source = clicked / "sources" / "clicks.safetensors"
    session.open(target)
    wait(lambda: session.folder == target)
    train.plan.source.setValue(source)
    train.plan.form.setValue({**common, "steps": settings.steps, "labels": settings.labels})
    press(train, "train")
    wait(lambda: session.training)
    wait(lambda: not session.training)
    run = session.run.path
    bench.setCurrentIndex(3)
    export.findChild(QLineEdit, "folder").setText(str(target / "exports"))
    press(export, "export")
    wait(lambda: bool(session.runner.tasks))
    wait(lambda: not session.runner.tasks)
    viewer.close()
    found = score(target / "exports", target)
    return {"scores": found, "source_sha256": sha(run), "scripted clicks per minute": round(pace)}


def headless(settings: Settings, clicked: Path, target: Path) -> dict[str, Any]:
    out = target.parent
    common = ["--size", settings.size, "--batch", settings.batch, "--seed", settings.seed]
    source, run, masks = out / "source.safetensors", out / "run", out / "masks"
    command("pretrain", clicked, "--out", source, "--steps", settings.pretrain_steps, *common)
    labels = ["--labels", settings.labels, "--steps", settings.steps]
    command("finetune", target, "--source", source, "--out", run, *labels, *common)
    command("predict", target, "--model", run, "--out", masks)
    return {"scores": score(masks, target), "source_sha256": sha(run), "files": sorted(masks.glob("*.png"))}


def score(masks: Path, data: Path) -> dict[str, Any]:
    """Mean Dice of each part, and of each case to the last digit."""
    table = data.parent / f"{masks.name}.csv"
    command("score", masks, data, "--out", table, "--overwrite")
    with table.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    parts = sorted({row["part"] for row in rows})
    means = {part: [float(row["dice"]) for row in rows if row["part"] == part and row["dice"]] for part in parts}
    return {
        **{part: round(sum(values) / len(values), 4) for part, values in means.items()},
        "cases": {row["case"]: row["dice"] for row in rows},
    }


def sha(run: Path) -> str:
    return str(json.loads((run / "summary.json").read_text(encoding="utf-8"))["source_sha256"])


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "napari_tlseg.cli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def press(dock: Any, name: str) -> None:
    dock.findChild(QPushButton, name).click()


def wait(holds: Callable[[], bool], seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        QTest.qWait(5)


if __name__ == "__main__":
    main(tyro.cli(Settings))
