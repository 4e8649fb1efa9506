"""The legend: its words and colours, and what a user sets with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_tlseg.data.overlay import FN, FP, PALETTES, TP, Counts

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot
    from qtpy.QtGui import QImage
    from qtpy.QtWidgets import QCheckBox

    from napari_tlseg.gui.review.legend import Legend

pytestmark = pytest.mark.window
CLASSES = ("background", "lung", "infection")


@pytest.fixture
def legend(qtbot: QtBot) -> Legend:
    from napari_tlseg.gui.review.legend import Legend

    legend = Legend()
    qtbot.addWidget(legend)
    legend.resize(330, 240)
    legend.show()
    qtbot.waitExposed(legend)
    return legend


def box(legend: Legend, words: str) -> QCheckBox:
    from qtpy.QtWidgets import QCheckBox

    return next(each for each in legend.findChildren(QCheckBox) if each.text() == words)


def click(qtbot: QtBot, box: QCheckBox) -> None:
    from qtpy.QtCore import QPoint, Qt

    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


def words(legend: Legend) -> list[str]:
    """All visible text, in reading order."""
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QLabel

    labels = [each for each in legend.findChildren(QLabel) if each.isVisible() and each.text()]

    def place(label: QLabel) -> tuple[int, int]:
        middle = label.mapTo(legend, QPoint(0, label.height() // 2))
        return middle.y() // 8, middle.x()

    return [each.text() for each in sorted(labels, key=place)]


def swatch(box: QCheckBox) -> QImage:
    return box.icon().pixmap(box.iconSize()).toImage()


def colour(box: QCheckBox) -> tuple[int, int, int, int]:
    """RGBA in the middle of the swatch."""
    image = swatch(box)
    return image.pixelColor(image.width() // 2, image.height() // 2).getRgb()


def test_plain_words_are_at_hand(legend: Legend) -> None:
    hints = [box(legend, name).toolTip() for name in ("TP · found", "FP · false", "FN · missed")]
    ends = ("found and true", "found but not true", "missed")
    assert all(hint.endswith(end) for hint, end in zip(hints, ends, strict=True))


def test_slice_and_case_are_counted_side_by_side(legend: Legend) -> None:
    legend.setCounts(Counts(tp=5, fp=1, fn=4), Counts(tp=12345, fp=0, fn=10000), "voxels")
    assert words(legend) == [
        *("voxels", "this slice", "case", "5", "12,345", "1", "0", "4", "10,000"),
        *("Dice", "0.667", "0.712"),
    ]


def test_a_photograph_has_one_column(legend: Legend) -> None:
    legend.setCounts(None, Counts(), "pixels", slices=False)
    assert words(legend) == ["pixels", "image", "0", "0", "0", "Dice", "–"], "nothing and nothing has no Dice"


def test_what_is_not_painted_is_said(legend: Legend) -> None:
    legend.setCounts(None, Counts(tp=1), "voxels")
    assert "Not painted in this slice: errors unknown" in words(legend)
    assert words(legend)[3:5] == ["–", "1"]
    legend.setCounts(None, None, "voxels")
    assert "Not painted: errors unknown" in words(legend)
    legend.setCounts(Counts(tp=1), Counts(tp=1), "voxels")
    assert not any("painted" in text for text in words(legend))


def test_the_note_moves_nothing(legend: Legend, qtbot: QtBot) -> None:
    def height(slice_counts: Counts | None) -> int:
        legend.setCounts(slice_counts, Counts(tp=1), "voxels")
        qtbot.wait(10)
        return legend.sizeHint().height()

    assert height(None) == height(Counts(tp=1))


def test_each_kind_of_error_can_be_hidden(legend: Legend, qtbot: QtBot) -> None:
    with qtbot.waitSignal(legend.shownChanged) as said:
        click(qtbot, box(legend, "TP · found"))
    assert said.args == [{FP, FN}] and legend.shown() == {FP, FN}
    with qtbot.waitSignal(legend.shownChanged) as said:
        click(qtbot, box(legend, "TP · found"))
    assert said.args == [{TP, FP, FN}]


def test_swatches_follow_palette_and_outline(legend: Legend, qtbot: QtBot) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QComboBox

    false = box(legend, "FP · false")
    assert colour(false) == (255, 0, 0, 255)
    palettes = next(each for each in legend.findChildren(QComboBox) if each.isVisible())
    with qtbot.waitSignal(legend.paletteChanged) as said:
        qtbot.keyClick(palettes, Qt.Key.Key_Down)
    assert said.args == ["colour-blind"] and legend.paletteName() == "colour-blind"
    assert colour(false) == (*PALETTES["colour-blind"][FP], 255)
    with qtbot.waitSignal(legend.outlineChanged) as said:
        click(qtbot, box(legend, "Outlines"))
    assert said.args == [True] and legend.outline()
    across = [swatch(false).pixelColor(x, swatch(false).height() // 2).getRgb() for x in range(swatch(false).width())]
    assert colour(false)[3] == 0 and (*PALETTES["colour-blind"][FP], 255) in across, "a frame of that colour"


def test_there_is_a_choice_where_there_are_several_classes(legend: Legend, qtbot: QtBot) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QComboBox

    legend.setClasses(("background", "disc"))
    assert "Class" not in words(legend) and legend.label() == 1
    with qtbot.assertNotEmitted(legend.labelChanged):
        legend.setClasses(CLASSES, 2)
    assert "Class" in words(legend) and legend.label() == 2
    classes = next(each for each in legend.findChildren(QComboBox) if each.currentText() == "infection")
    with qtbot.waitSignal(legend.labelChanged) as said:
        qtbot.keyClick(classes, Qt.Key.Key_Up)
    assert said.args == [1] and legend.label() == 1


def test_of_two_predictions_none_is_called_wrong(legend: Legend) -> None:
    from napari_tlseg.gui.review.meaning import difference

    legend.setMeaning(difference("λ = 1", "λ = 0"))
    assert box(legend, "only A").toolTip() == "Found only by A: λ = 1"
    assert colour(box(legend, "both")) == (255, 255, 255, 255)
    assert colour(box(legend, "only A")) == (255, 0, 255, 255)


def test_it_fits_a_narrow_dock(legend: Legend) -> None:
    legend.setClasses(CLASSES)
    legend.setCounts(Counts(tp=262_144), Counts(tp=78_643_200), "voxels")
    assert legend.minimumSizeHint().width() <= 330
