"""The export dock: the files it has written are those of the job, and what it says of them is true."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import nibabel as nib
import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLabel, QLineEdit, QPushButton, QToolButton, QWidget

from napari_tlseg.data.annotations import mask_path
from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.messages import Failed
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Finished
from napari_tlseg.gui.canvas.layers import case_of
from napari_tlseg.gui.export.choices import FORMATS
from napari_tlseg.gui.export.dock import CLEANING, ExportDock
from napari_tlseg.gui.export.exported import Export
from napari_tlseg.gui.export.run_choice import run_words
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.session import Session
from napari_tlseg.options import Format
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("lent_worker")]
W = TypeVar("W", bound=QWidget)
RESULTS = 60_000
"""Milliseconds until a worker that starts on a busy machine has written some masks."""


def trained(root: Path) -> Path:
    """With a run, and under reference/ the masks that its model finds."""
    tiny = {"steps": 30, "learning_rate": 1e-2, "size": 32, "batch": 2, "device": "cpu"}
    list(Finetune(data=root, out=root / "runs" / "first", **tiny).run())
    list(Predict(data=(root,), model=root / "runs" / "first", out=root / "reference").run())
    return root


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(write_eyes(tmp_path_factory.mktemp("data") / "eyes", channels=3))


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(write_chests(tmp_path_factory.mktemp("data") / "chests", 4))


@pytest.fixture
def own_eyes(eyes: Path, tmp_path: Path) -> Path:
    """A copy, to be changed; three of the eight have no mask."""
    copy = shutil.copytree(eyes, tmp_path / "eyes", ignore=shutil.ignore_patterns("exports"))
    for number in (1, 4, 6):
        (copy / "masks" / f"eye{number}.png").unlink()
    return copy


class Desk:
    """The dock as its user sees it."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.dock = ExportDock(viewer)
        self.session: Session = self.dock.session
        viewer.window.add_dock_widget(self.dock, name="Export masks")
        notification_manager.records.clear()

    def open(self, folder: Path) -> None:
        with self.qtbot.waitSignal(self.session.case_shown, timeout=10_000):
            self.session.open(folder)

    def part(self, kind: type[W], name: str) -> W:
        found = self.dock.findChild(kind, name)
        assert found is not None
        return found

    def click(self, name: str) -> None:
        button = self.part(QPushButton, name)
        assert button.isVisible() and button.isEnabled()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def choose(self, name: str, value: Any) -> None:
        choice = self.part(QComboBox, name)
        choice.setCurrentIndex(choice.findData(value))

    def export(self) -> str:
        """Press the button, wait, and read what is said."""
        self.click("export")
        assert not self.part(QPushButton, "export").isEnabled()
        return self.result()

    def result(self) -> str:
        words = self.part(QLabel, "result")
        self.qtbot.waitUntil(words.isVisible, timeout=RESULTS)
        return str(words.text())

    def complaints(self) -> list[str]:
        return [record.message for record in notification_manager.records if record.severity.name == "ERROR"]


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot) -> Desk:
    return Desk(viewer, qtbot)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_says_what_to_do_first(desk: Desk, tmp_path: Path) -> None:
    words, button = desk.part(QLabel, "next"), desk.part(QPushButton, "export")
    assert words.text() == "Open a folder of images first, in 'Click targets'." and words.isVisible()
    assert not button.isVisible()
    desk.open(write_eyes(tmp_path / "eyes", 2))
    assert "train one in 'Train'" in words.text() and words.isVisible()
    assert not button.isVisible()
    desk.dock.export()
    assert desk.session.runner.tasks == [] and desk.complaints() == []


def test_photographs_are_written_as_the_model_sees_them(
    desk: Desk, eyes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.open(eyes)
    folder = eyes / "exports" / "first"
    assert desk.part(QLineEdit, "folder").text() == str(folder) and not folder.exists()
    assert desk.part(QPushButton, "export").text() == "Export 8 masks"
    words = desk.export()
    assert words == "8 masks written and read back. Each lies pixel for pixel on its image; PNG holds no spacing."
    assert names(folder) == names(eyes / "reference") == [*(f"eye{number}.png" for number in range(8)), "model.json"]
    for number in range(8):
        found, wanted = (np.array(Image.open(each / f"eye{number}.png")) for each in (folder, eyes / "reference"))
        np.testing.assert_array_equal(found, wanted)
        assert found.any(), "the model sees something, so that the comparison says something"

    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: bool(opened.append(url.toLocalFile())) or True)
    desk.click("open_folder")
    assert opened == [str(folder)] and desk.complaints() == []


def test_volumes_keep_spacing_and_orientation(desk: Desk, chests: Path, tmp_path: Path) -> None:
    desk.open(chests)
    formats = desk.part(QComboBox, "format")
    png = formats.findData("png")
    assert not formats.model().item(png).isEnabled()
    assert formats.itemData(png, Qt.ItemDataRole.ToolTipRole) == "chest0 is a volume, which PNG cannot hold"
    for format, kept in (("nifti", ", with its spacing and orientation."), ("tiff", ", with its spacing.")):
        desk.choose("format", format)
        desk.part(QLineEdit, "folder").setText(str(tmp_path / format))
        words = desk.export()
        assert words == f"4 masks written and read back. Each lies pixel for pixel on its image{kept}"
    for number in range(4):
        image, found, wanted = (
            nib.load(folder / f"chest{number}.nii.gz")
            for folder in (chests / "images", tmp_path / "nifti", chests / "reference")
        )
        np.testing.assert_array_equal(found.affine, image.affine)
        assert found.header.get_zooms() == image.header.get_zooms()
        assert np.asarray(found.dataobj).any()
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
        with tifffile.TiffFile(tmp_path / "tiff" / f"chest{number}.tif") as tiff:
            np.testing.assert_array_equal(tiff.asarray(), np.asarray(wanted.dataobj).T)
            assert tiff.imagej_metadata["spacing"] == pytest.approx(5)
            y, x = (tiff.pages[0].tags[f"{axis}Resolution"].value for axis in "YX")
            assert (y[1] / y[0], x[1] / x[0]) == pytest.approx((0.7, 0.8))


def test_only_cases_without_a_mask_or_the_one_shown(desk: Desk, own_eyes: Path, tmp_path: Path) -> None:
    desk.open(own_eyes)
    folder, which = desk.part(QLineEdit, "folder"), desk.part(QComboBox, "which")
    texts = [which.itemText(row) for row in range(which.count())]
    assert texts == ["All cases (8)", "Cases without a mask (3)", "The case shown (eye0)"]
    desk.choose("which", "unmasked")
    folder.setText(str(tmp_path / "some"))
    assert desk.export().startswith("3 masks written and read back.")
    assert names(tmp_path / "some") == ["eye1.png", "eye4.png", "eye6.png", "model.json"]

    with desk.qtbot.waitSignal(desk.session.case_shown):
        desk.session.step(4)
    desk.choose("which", "shown")
    desk.choose("format", "nifti")
    folder.setText("one")
    assert desk.part(QPushButton, "export").text() == "Export 1 mask"
    assert "where the image knows no spacing, the file says 1 mm" in desk.export()
    assert names(own_eyes / "one") == ["eye4.nii.gz", "model.json"], "a relative path begins in the dataset folder"
    found = np.asarray(nib.load(own_eyes / "one" / "eye4.nii.gz").dataobj).squeeze().T
    np.testing.assert_array_equal(255 * found, np.array(Image.open(own_eyes / "reference" / "eye4.png")))

    shutil.copytree(own_eyes / "reference", own_eyes / "masks", dirs_exist_ok=True)
    desk.choose("which", "unmasked")
    with desk.qtbot.waitSignal(desk.session.masks_changed):
        desk.session.reload()
    assert desk.part(QLabel, "hint").text() == "Every case has a mask."
    assert not desk.part(QPushButton, "export").isEnabled()


def test_the_mask_shown_becomes_a_layer_of_the_users(desk: Desk, own_eyes: Path) -> None:
    desk.open(own_eyes)
    desk.choose("which", "unmasked")
    desk.export()
    assert not desk.part(QPushButton, "as_layer").isEnabled(), "the case shown has a mask, none was written of it"
    with desk.qtbot.waitSignal(desk.session.case_shown):
        desk.session.step(1)
    desk.click("as_layer")
    desk.qtbot.waitUntil(lambda: len(desk.viewer.layers) == 2)
    layer = desk.viewer.layers[-1]
    assert (layer.name, layer._type_string) == ("eye1 (first)", "labels") and not desk.session.canvas.owns(layer)
    np.testing.assert_array_equal(255 * layer.data, np.array(Image.open(own_eyes / "reference" / "eye1.png")))
    case = case_of(layer)
    assert case is not None and case.name == "eye1"
    with desk.qtbot.waitSignal(desk.session.case_shown):
        desk.session.step(1)
    assert layer in desk.viewer.layers, "it stays when another case is shown"


def test_masks_that_are_there_are_replaced_only_when_told(desk: Desk, own_eyes: Path) -> None:
    folder = own_eyes / "exports" / "first"
    folder.mkdir(parents=True)
    (folder / "eye3.png").write_bytes(b"precious")
    desk.open(own_eyes)
    assert desk.export() == "No mask was written."
    assert desk.complaints() == [
        f"{folder / 'eye3.png'}: 1 of the masks exist already; "
        "choose another folder or tick 'Replace masks that are there'"
    ]
    assert names(folder) == ["eye3.png"] and (folder / "eye3.png").read_bytes() == b"precious"
    desk.part(QCheckBox, "replace").click()
    assert desk.export().startswith("8 masks written")
    assert (folder / "eye3.png").read_bytes() == (own_eyes / "reference" / "eye3.png").read_bytes()
    assert len(desk.complaints()) == 1


def test_a_run_or_a_folder_that_is_gone_is_one_sentence(desk: Desk, own_eyes: Path) -> None:
    desk.open(own_eyes)
    desk.choose("which", "shown")
    desk.export()
    shutil.rmtree(own_eyes / "exports")
    desk.click("open_folder")
    assert desk.complaints() == [f"{own_eyes / 'exports' / 'first'}: is no longer there; export the masks again"]
    shutil.rmtree(own_eyes / "runs" / "first")
    assert desk.export() == "No mask was written."
    assert len(desk.complaints()) == 2 and str(own_eyes / "runs" / "first") in desk.complaints()[1]
    assert "\n" not in desk.complaints()[1] and not (own_eyes / "exports").exists()
    desk.session.runs_changed.emit()
    assert desk.part(QLabel, "next").isVisible()


def test_what_stands_in_the_place_of_masks_is_never_lost(desk: Desk, own_eyes: Path) -> None:
    desk.open(own_eyes)
    desk.part(QCheckBox, "replace").click()
    for name, reason in (("masks", "is where the true masks are"), ("images", "is an image")):
        before = {path: path.read_bytes() for path in (own_eyes / name).iterdir()}
        desk.part(QLineEdit, "folder").setText(name)
        assert desk.export() == "No mask was written."
        assert reason in desk.complaints()[-1] and "--" not in desk.complaints()[-1]
        assert {path: path.read_bytes() for path in (own_eyes / name).iterdir()} == before


def test_masks_are_cleaned_as_the_form_says(desk: Desk, eyes: Path, tmp_path: Path) -> None:
    desk.open(eyes)
    desk.part(QLineEdit, "folder").setText(str(tmp_path / "m"))
    [title] = desk.dock.findChildren(QToolButton)
    desk.qtbot.mouseClick(title, Qt.MouseButton.LeftButton)
    fields = {each.accessibleName(): each for each in desk.dock.findChildren(QWidget) if each.accessibleName()}
    smallest = fields[CLEANING["smallest"]]
    assert smallest.isVisible()
    for typed, complaints in (("many", ["'many' is not a number; give one such as 0.5 or 1e-3"]), ("9999", [])):
        notification_manager.records.clear()
        smallest.selectAll()
        desk.qtbot.keyClicks(smallest, typed)
        desk.qtbot.keyClick(smallest, Qt.Key.Key_Return)
        desk.dock.export()
        assert desk.complaints() == complaints
    assert desk.result().startswith("8 masks written")
    assert not any(np.array(Image.open(path)).any() for path in (tmp_path / "m").glob("*.png"))


def test_stopped_in_the_middle_only_whole_files_remain(desk: Desk, eyes: Path, tmp_path: Path) -> None:
    many = write_eyes(tmp_path / "many", 300, channels=3)
    shutil.copytree(eyes / "runs", many / "runs")
    desk.open(many)
    desk.click("export")
    [stop] = [button for button in desk.dock.findChildren(QPushButton) if button.text() == "Stop"]
    folder = many / "exports" / "first"
    desk.qtbot.waitUntil(lambda: len(list(folder.glob("*.png"))) > 2, timeout=RESULTS)
    desk.qtbot.mouseClick(stop, Qt.MouseButton.LeftButton)
    words = desk.result()
    written = sorted(folder.glob("eye*.png"))
    assert 2 < len(written) < 300
    assert words.startswith(f"Stopped: {len(written)} of 300 masks written and read back.")
    assert len(names(folder)) == len(written) + 1, "besides model.json nothing else, and nothing half written"
    for path in written:
        assert set(np.unique(np.array(Image.open(path)))) <= {0, 255}
    assert desk.complaints() == [] and desk.part(QPushButton, "export").isEnabled()


def test_the_model_file_is_a_copy(desk: Desk, eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.open(eyes)
    chosen = tmp_path / "disc v1.2"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(chosen), ""))
    desk.click("save_model")
    copy = tmp_path / "disc v1.2.safetensors"
    desk.qtbot.waitUntil(copy.exists)
    assert copy.read_bytes() == (eyes / "runs" / "first" / "model.safetensors").read_bytes()
    desk.qtbot.waitUntil(lambda: any("as a source in Train" in each.message for each in notification_manager.records))
    copy.write_bytes(b"another")
    desk.click("save_model")
    assert desk.complaints() == [f"{copy}: is there already; choose another name"]
    assert copy.read_bytes() == b"another" and names(tmp_path) == [copy.name]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    desk.click("save_model")


def test_the_latest_run_is_chosen_until_the_user_chooses(desk: Desk, own_eyes: Path) -> None:
    desk.open(own_eyes)
    runs, folder = own_eyes / "runs", desk.part(QLineEdit, "folder")

    def add(name: str, age: int) -> None:
        shutil.copytree(runs / "first", runs / name)
        os.utime(runs / name / "job.json", (2e9 - age, 2e9 - age))
        desk.session.runs_changed.emit()

    def chosen() -> tuple[str, str]:
        run = desk.dock.run_choice.value()
        assert run is not None
        return run.name, Path(folder.text()).name

    assert chosen() == ("first", "first")
    add("second", 20)
    assert chosen() == ("second", "second")
    desk.dock.run_choice.setCurrentIndex(1)
    add("third", 10)
    assert chosen() == ("first", "first")
    folder.setText(str(own_eyes / "mine"))
    desk.dock.run_choice.setCurrentIndex(0)
    assert chosen() == ("third", "mine")


def test_another_viewer_has_a_dock_of_its_own(
    desk: Desk, viewers: Callable[[], Viewer], eyes: Path, own_eyes: Path
) -> None:
    desk.open(eyes)
    second = Desk(viewers(), desk.qtbot)
    desk.qtbot.waitUntil(second.part(QLabel, "next").isVisible)
    second.open(own_eyes)
    second.choose("which", "unmasked")
    second.click("export")
    assert desk.part(QPushButton, "export").isEnabled() and desk.session.runner.tasks == []
    assert second.result().startswith("3 masks written")
    assert not desk.part(QLabel, "result").isVisible()
    assert desk.part(QLineEdit, "folder").text() == str(eyes / "exports" / "first")


def test_every_format_of_the_job_has_words() -> None:
    assert tuple(FORMATS) == get_args(Format)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({}, "r · not finished"),
        ({"source": "none", "lambda": 0.0, "validation": {"dice_mean": None}}, "r · no source · no validation"),
        (
            {"source": "a", "lambda": "inf", "validation": {"dice_mean": 0.876, "dice_sd": None, "cases": ["b"]}},
            "r · λ ∞ · Dice 0.88, too few to judge",
        ),
        (
            {"source": "a", "lambda": 1e-3, "validation": {"dice_mean": 0.9, "dice_sd": 0.04, "cases": list("bcdefg")}},
            "r · λ 1e-3 · Dice 0.90 ± 0.04",
        ),
    ],
)
def test_a_run_in_words(summary: dict[str, Any], words: str) -> None:
    assert run_words(Run(Path("r"), summary)) == words


def test_no_more_is_said_than_was_looked_at() -> None:
    sheet = Geometry(shape=(4, 4), spacing=(1.0, 1.0))
    block = Geometry(shape=(2, 4, 4), spacing=(5.0, 1.0, 1.0), unit="mm", affine=np.eye(4))
    photo = Case(name="a", image=Path("a.png"), geometry=sheet)
    scan = Case(name="b", image=Path("b.nii"), geometry=block)
    failed = Failed(sentence="the disk is full", traceback="", kind="input")
    stopped = Finished(reason="stopped", out=None)

    def words(result: Finished | Failed, *cases: Case, format: Format = "auto") -> str:
        written = {case.name: mask_path(case, Path("m"), format) for case in cases}
        return Export(run="r", folder=Path("m"), cases=(photo, scan), written=written).words(result)

    assert words(failed) == "No mask was written."
    assert words(stopped) == "Stopped: no mask was written."
    assert words(failed, photo) == (
        "1 of 2 masks written and read back. Each lies pixel for pixel on its image; PNG holds no spacing."
    )
    assert words(stopped, scan).startswith("Stopped: 1 of 2 masks")
    assert words(stopped, scan).endswith("with its spacing and orientation.")
    assert words(failed, photo, scan).endswith("with its spacing where the file can hold one.")
    assert words(failed, photo, scan, format="nifti").endswith("where the image knows no spacing, the file says 1 mm.")
    assert words(failed, photo, scan, format="tiff").endswith("with its spacing.")


def test_the_mask_of_a_case_is_found_when_the_folder_was_read_anew(eyes: Path) -> None:
    case = read_dataset(eyes)["eye1"]
    export = Export(run="r", folder=Path("m"), cases=(case,), written={"eye1": Path("m/eye1.png")})
    assert export.mask_of(replace(case, mask=None, click=(1.0, math.pi))) == Path("m/eye1.png")
    assert export.mask_of(replace(case, image=Path("elsewhere/eye1.png"))) is None
    assert export.mask_of(None) is None
