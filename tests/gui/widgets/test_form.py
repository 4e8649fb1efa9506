"""Forms made of the jobs' dataclasses, filled in by mouse and keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.gui.widgets.form import Form, field_help
from napari_tlseg.gui.widgets.strength import StrengthSlider
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.studies.jobs import Crossval, Efficiency, LambdaPath
from napari_tlseg.studies.teaching import Student

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window

TRAINING = (
    "encoder", "size", "labels", "steps", "batch", "learning_rate", "held_out", "patience", "loss", "solver",
    "overwrite", "recipe", "seed",
)  # fmt: skip
ENCODERS = ["unet", "densenet121", *(f"resnet{number}" for number in range(100))]
CLEANING = ("keep_outside", "opacities", "opening", "closing", "fill_holes", "smallest", "largest_only")


@pytest.fixture
def form(qtbot: QtBot) -> Form:
    return shown(qtbot, Form(Finetune, TRAINING, choices={"encoder": ENCODERS, "recipe": ["auto", "fundus", "plain"]}))


def shown(qtbot: QtBot, form: Form) -> Form:
    qtbot.addWidget(form)
    form.resize(330, form.sizeHint().height())
    form.show()
    qtbot.waitExposed(form)
    form.told = []
    form.valueChanged.connect(lambda: form.told.append(form.value()))
    return form


def native(form: Form, name: str) -> Any:
    return form._editors[name].native


def enter(qtbot: QtBot, form: Form, name: str, text: str) -> None:
    editor = native(form, name)
    line = editor.lineEdit() if hasattr(editor, "lineEdit") else editor
    line.selectAll()
    qtbot.keyClicks(line, text)
    qtbot.keyClick(line, Qt.Key.Key_Return)


def test_it_shows_the_defaults_of_the_job(form: Form) -> None:
    assert form.value() == {field.name: field.default for field in fields(Finetune) if field.name in TRAINING}
    assert not form.problems()
    assert native(form, "learning_rate").text() == "0.001" and native(form, "size").text() == "auto"
    assert Finetune(data=Path(), out=Path(), **form.value()) == Finetune(data=Path(), out=Path())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "25000", 25000),
        ("patience", "3", 3),
        ("size", "384", 384),
        ("learning_rate", "1e-4", 1e-4),
        ("learning_rate", "3.2e-05", 3.2e-5),
        ("held_out", "0.35", 0.35),
        ("encoder", "densenet121", "densenet121"),
        ("encoder", "DenseNet121", "densenet121"),
    ],
)
def test_what_is_typed_is_its_value(form: Form, qtbot: QtBot, name: str, text: str, value: object) -> None:
    enter(qtbot, form, name, text)
    assert form.value()[name] == value and type(form.value()[name]) is type(value)
    assert [told[name] for told in form.told] == [value], "told once"
    assert not form.problems()


def test_a_number_below_the_least_is_auto_again(form: Form, qtbot: QtBot) -> None:
    enter(qtbot, form, "labels", "5")
    assert form.value()["labels"] == 5
    enter(qtbot, form, "labels", "0")
    assert form.value()["labels"] is None and native(form, "labels").text() == "auto"


def test_boxes_and_lists_take_clicks_and_keys(form: Form, qtbot: QtBot) -> None:
    box = native(form, "overwrite")
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    qtbot.keyClick(native(form, "solver"), Qt.Key.Key_Down)
    qtbot.keyClick(native(form, "loss"), Qt.Key.Key_Down)
    assert (form.value()["overwrite"], form.value()["solver"], form.value()["loss"]) == (True, "paper", "dice")
    assert len(form.told) == 3


def test_a_number_that_is_still_being_typed_counts(form: Form, qtbot: QtBot) -> None:
    line = native(form, "steps").lineEdit()
    line.selectAll()
    qtbot.keyClicks(line, "1500")
    assert form.value()["steps"] == 1500 and not form.told


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("size", "5", "Size 5 is not possible; give between 32 and 2048"),
        ("learning_rate", "2", "Learning rate 2.0 is not possible; give above 0 and at most 1"),
        ("learning_rate", "fast", "'fast' is not a number; give one such as 0.5 or 1e-3"),
        ("held_out", "1", "Held out 1.0 is not possible; give a share from 0 to below 1"),
        ("encoder", "resnet", "there is no 'resnet'; choose from the list"),
    ],
)
def test_a_wrong_value_is_marked_in_its_row(form: Form, qtbot: QtBot, name: str, text: str, sentence: str) -> None:
    right = form.value()[name]
    enter(qtbot, form, name, text)
    assert form.problems() == {name: sentence}
    assert [form._problems[name].text(), form._problems[name].isVisible()] == [sentence, True]
    assert "border" in native(form, name).styleSheet() and sentence[:4] in native(form, name).toolTip()
    assert not any(label.isVisible() for other, label in form._problems.items() if other != name)
    form.setValue({name: right})
    assert not form.problems() and not form._problems[name].isVisible() and not native(form, name).styleSheet()


def test_text_that_means_nothing_leaves_the_value_alone(form: Form, qtbot: QtBot) -> None:
    enter(qtbot, form, "held_out", "0.3")
    enter(qtbot, form, "held_out", "a third")
    assert form.value()["held_out"] == 0.3 and len(form.told) == 1


def test_two_wrong_values_are_both_marked(form: Form) -> None:
    form.setValue({"size": 5, "held_out": 2.0, "steps": 10})
    assert form.problems().keys() == {"size", "held_out"}


def test_what_only_fails_together_is_marked_where_it_was_changed(qtbot: QtBot) -> None:
    form = shown(qtbot, Form(Pretrain, ("task", "batch")))
    enter(qtbot, form, "batch", "1")
    assert form.problems() == {"batch": "Batch 1 is not possible; give at least 2"}
    qtbot.keyClick(native(form, "task"), Qt.Key.Key_Down)
    assert form.value() == {"task": "segment", "batch": 1} and not form.problems()


def test_the_value_of_a_job_can_be_shown(form: Form) -> None:
    job = Finetune(data=Path(), out=Path(), size=64, encoder="vgg11", learning_rate=1e-5, loss="both", overwrite=True)
    form.setValue({field.name: getattr(job, field.name) for field in fields(job)})
    assert Finetune(data=Path(), out=Path(), **form.value()) == job
    assert len(form.told) == 1
    form.setValue({"encoder": None, "size": None})
    assert form.value()["encoder"] is None and form.value()["size"] is None


def test_choices_can_come_later_under_other_names(form: Form, qtbot: QtBot) -> None:
    form.setValue({"recipe": "plain"})
    form.told.clear()
    form.set_choices("recipe", {"auto": "by the data", "plain": "as it is", "ct-lung": "chest CT"})
    assert form.value()["recipe"] == "plain" and native(form, "recipe").currentText() == "as it is"
    qtbot.keyClick(native(form, "recipe"), Qt.Key.Key_Down)
    assert form.value()["recipe"] == "ct-lung" and len(form.told) == 1
    enter(qtbot, form, "encoder", "resnet")
    form.set_choices("encoder", ["unet", "resnet"])
    assert form.value()["encoder"] == "resnet", "what was typed is there now"


def test_many_names_can_be_found_by_a_part_of_them(form: Form, qtbot: QtBot) -> None:
    combo = native(form, "encoder")
    combo.lineEdit().selectAll()
    qtbot.keyClicks(combo.lineEdit(), "net121")
    assert combo.completer().completionCount() == 1 and combo.completer().currentCompletion() == "densenet121"
    assert not native(form, "recipe").isEditable(), "a few names are a plain list"
    combo.completer().popup().hide()


@pytest.mark.parametrize("job", [Pretrain, Finetune, Predict, Postprocess, LambdaPath, Crossval, Efficiency, Student])
def test_help_is_of_the_docstrings_and_no_flag_is_in_it(job: type) -> None:
    help = field_help(job)
    assert help.keys() == {field.name for field in fields(job)}
    assert {name for name, text in help.items() if not text} <= {"clean"}, "which is a form of its own"
    assert not [name for name, text in help.items() if re.search(r"--\w", text)]


def test_help_of_a_base_holds_until_it_is_said_anew() -> None:
    @dataclass
    class Base:
        one: int = 1
        """One,
        of the base."""
        two: int = 2
        """Two."""

    @dataclass
    class Derived(Base):
        one: int = 3
        two: int = 4
        """Two, derived."""
        bare: int = 5

    assert field_help(Derived) == {"one": "One, of the base.", "two": "Two, derived.", "bare": ""}


def test_help_is_there_for_label_and_field_and_wraps(qtbot: QtBot) -> None:
    form = shown(qtbot, Form(Postprocess, CLEANING, labels={"opening": "Remove what is thinner than"}))
    assert native(form, "opening").toolTip().startswith("<qt>Radius")
    assert "class <i>lung</i>, their components" in native(form, "opacities").toolTip()
    assert native(form, "opening").accessibleName() == "Remove what is thinner than"


def test_postprocessing_can_be_filled_in(qtbot: QtBot) -> None:
    form = shown(qtbot, Form(Postprocess, CLEANING))
    assert Postprocess(**form.value()) == Postprocess() and native(form, "opening").text() == "0"
    enter(qtbot, form, "opening", "1.5")
    enter(qtbot, form, "opacities", "infection, effusion")
    assert Postprocess(**form.value()) == Postprocess(opening=1.5, opacities=("infection", "effusion"))
    enter(qtbot, form, "smallest", "-1")
    assert form.problems() == {"smallest": "post-processing: smallest must be 0 or more, not -1.0"}


def test_the_wheel_passes_fields_that_are_not_in_use(form: Form, qtbot: QtBot) -> None:
    for name in ("steps", "solver"):
        turn_wheel(native(form, name))
    assert not form.told
    form.activateWindow()
    native(form, "steps").setFocus()
    qtbot.waitUntil(native(form, "steps").hasFocus)
    turn_wheel(native(form, "steps"))
    assert form.value()["steps"] != 300


def test_it_is_gone_with_the_window(viewer: Viewer, qtbot: QtBot) -> None:
    form, slider = Form(Finetune, TRAINING, choices={"encoder": ENCODERS}), StrengthSlider()
    for widget in (form, slider):
        viewer.window.add_dock_widget(widget)
    line = native(form, "encoder").lineEdit()
    line.selectAll()
    qtbot.keyClicks(line, "dense")
    enter(qtbot, form, "learning_rate", "2")
    assert form.problems().keys() == {"encoder", "learning_rate"}


def turn_wheel(widget: QWidget) -> None:
    centre = widget.rect().center()
    places = QPointF(centre), QPointF(widget.mapToGlobal(centre)), QPoint(), QPoint(0, 120)
    keys = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False
    QApplication.sendEvent(widget, QWheelEvent(*places, *keys))
