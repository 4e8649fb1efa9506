"""The whole journey as a user makes it: mouse and keys in, files and what is on the screen out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from napari_tlseg.data.phantoms import write_fundus

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow]
CASES, SIDE = 8, 160


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Photographs and masks, not yet clicked."""
    write_fundus(tmp_path / "eyes", CASES, seed=3, size=SIDE)
    (tmp_path / "eyes" / "clicks.csv").rename(tmp_path / "where.csv")
    return tmp_path / "eyes"


def test_the_journey_by_mouse_and_keys(viewer: Viewer, qtbot: QtBot, eyes: Path, monkeypatch: Any) -> None:
    from qtpy.QtCore import Qt
    from user import CTRL, User

    monkeypatch.setenv("QT_QPA_PLATFORMTHEME", "none")
    user = User(viewer, qtbot)
    user.menu("Plugins", "napari-tlseg", "Workbench")
    user.choose_folder("Open folder", eyes)
    user.wait(lambda: user.reads(f"0 of {CASES}"))

    targets = {row["image"]: (float(row["y"]), float(row["x"])) for row in table(eyes.parent / "where.csv")}
    for number, (image, place) in enumerate(list(targets.items())[:6], start=1):
        user.wait(lambda image=image: user.sees(Path(image).stem))
        user.click_image(*place)
        assert len(table(eyes / "clicks.csv")) == number, "on the disk before the next one"
    for row in table(eyes / "clicks.csv"):
        found = float(row["y"]), float(row["x"])
        np.testing.assert_allclose(found, targets[row["image"]], atol=1)
    user.key(Qt.Key.Key_Z, CTRL)
    assert len(table(eyes / "clicks.csv")) == 5
    user.key(Qt.Key.Key_Z, CTRL | Qt.KeyboardModifier.ShiftModifier)
    assert len(table(eyes / "clicks.csv")) == 6

    user.tab("2 Train")
    user.press("Pretraining settings")
    user.field("Steps", "30")
    user.field("Size", "64")
    user.press("Pretraining settings")
    user.press("Pretrain on my 6 clicks")
    user.wait(lambda: user.reads("Pretrained"))
    source = encoder(eyes / "sources" / "clicks.safetensors")

    user.press("Training settings")
    user.field("Steps", "2000")
    user.field("Size", "64")
    user.press("Training settings")
    user.press("Train")
    first = eyes / "runs" / "clicks-0.001"
    user.wait(lambda: any(event["event"] == "Evaluated" for event in events(first)))
    user.slide(Qt.Key.Key_End)
    moved = len(events(first))
    user.wait(lambda: len(events(first)) > moved + 10)
    user.press("Stop")
    user.wait((first / "summary.json").exists)
    steps = [event for event in events(first) if event["event"] == "Stepped"]
    strengths = [event["strength"] for event in steps]
    assert strengths[0] == 1e-3 and strengths[-1] == "inf", "λ acted while it trained"
    drifts = [event["drift"] for event in events(first) if event["event"] == "Evaluated"]
    assert drifts[0] > 0, "before λ = ∞ the encoder had moved"
    frozen = encoder(first / "model.safetensors")
    assert frozen.keys() == source.keys() and all((frozen[name] == source[name]).all() for name in source)

    user.press("Training settings")
    user.field("Steps", "60")
    user.press("Training settings")
    user.slide(Qt.Key.Key_Home)
    user.press("Train")
    second = eyes / "runs" / "clicks-0"
    user.wait((second / "summary.json").exists)
    user.wait(lambda: user.button("Train").isEnabled())
    assert json.loads((second / "summary.json").read_text())["lambda"] == 0

    user.tab("3 Review")
    before = user.canvas()
    worst = user.row("cases", 0)
    user.wait(lambda: user.sees("errors"))
    user.wait(lambda: (user.canvas() != before).any())
    scored = {row["case"]: float(row["dice"] or 2) for row in table(second / "scores.csv") if row["part"] != "held-out"}
    assert worst == min(scored, key=lambda name: scored[name])
    user.press("Edit as mask")
    user.press("Replace it")
    user.wait(lambda: user.sees("mask"))
    user.paint((20, 30), (20, 60), (24, 60))
    user.press("Done")
    predicted, mask = picture(second / "masks" / f"{worst}.png"), eyes / "masks" / f"{worst}.png"
    user.wait(lambda: picture(mask)[20, 30:60].all())
    corrected = picture(mask)
    assert (corrected >= predicted).all(), "the stroke was added, nothing was lost"
    assert set(np.unique(corrected)) <= {0, 255} and 0 < (corrected != predicted).sum() < corrected.size / 4

    user.tab("4 Export")
    user.choose("format", "PNG")
    user.press("Export 8 masks")
    out = eyes / "exports" / "clicks-0"
    user.wait(lambda: len(list(out.glob("*.png"))) == CASES)
    user.wait(lambda: user.button("Export 8 masks").isEnabled())
    user.choose("format", "NIfTI")
    user.press("Export 8 masks")
    user.wait(lambda: len(list(out.glob("*.nii.gz"))) == CASES)
    user.wait(lambda: user.button("Export 8 masks").isEnabled())
    for image in targets:
        exported = picture(out / image)
        nifti = nib.load(out / f"{Path(image).stem}.nii.gz")
        assert exported.shape == picture(eyes / "images" / image).shape[:2]
        np.testing.assert_array_equal(np.asarray(nifti.dataobj).reshape(SIDE, SIDE).T, exported // 255)
        np.testing.assert_allclose(nifti.header.get_zooms()[:2], 1)
    np.testing.assert_array_equal(picture(out / f"{worst}.png"), predicted)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def events(run: Path) -> list[dict[str, Any]]:
    path = run / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def encoder(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a model's encoder."""
    return {name: values for name, values in load_file(path).items() if name.startswith("encoder.")}


def picture(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))
