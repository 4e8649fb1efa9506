"""The λ slider: its mapping, and what mouse and keys do to it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_tlseg.errors import InputError
from napari_tlseg.gui.widgets.strength import (
    LAST,
    PER_DECADE,
    STRENGTHS,
    StrengthSlider,
    drift_text,
    read_strength,
    strength_text,
    tick_of,
)

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window
strengths = st.floats(min_value=0, allow_nan=False)


def test_ticks_ascend_from_free_over_the_decades_to_frozen() -> None:
    assert (STRENGTHS[0], STRENGTHS[1], STRENGTHS[-2], STRENGTHS[-1]) == (0, 1e-6, 1e2, math.inf)
    assert all(low < high for low, high in pairwise(STRENGTHS))
    assert STRENGTHS[1:LAST:PER_DECADE] == pytest.approx([10.0**power for power in range(-6, 3)], rel=1e-15)


def test_every_tick_comes_back() -> None:
    assert [tick_of(strength) for strength in STRENGTHS] == list(range(LAST + 1))


@given(strengths)
def test_the_nearest_tick_is_taken(strength: float) -> None:
    tick = tick_of(strength)
    if strength in (0, math.inf):
        assert STRENGTHS[tick] == strength
    else:
        away = [abs(math.log(strength) - math.log(other)) for other in STRENGTHS[1:-1]]
        assert away[tick - 1] == min(away)


@given(strengths, strengths)
def test_a_larger_strength_never_lies_further_left(one: float, other: float) -> None:
    assert tick_of(min(one, other)) <= tick_of(max(one, other))


@given(strengths)
def test_text_is_exact(strength: float) -> None:
    assert read_strength(strength_text(strength)) == strength


@pytest.mark.parametrize(
    ("text", "strength"), [("0", 0), ("1e-3", 1e-3), (" 0.001 ", 1e-3), ("inf", math.inf), ("∞", math.inf), ("-0", 0)]
)
def test_what_can_be_typed(text: str, strength: float) -> None:
    assert read_strength(text) == strength and math.copysign(1, read_strength(text)) == 1


@pytest.mark.parametrize("text", ["", "abc", "-1", "nan", "-inf", "1,5"])
def test_what_cannot_be_typed_is_answered_with_what_can(text: str) -> None:
    with pytest.raises(InputError, match="give 0, a number such as"):
        read_strength(text)


@pytest.mark.parametrize(
    ("drift", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0, "0 %"),
        (1e-6, "< 0.01 %"),
        (0.0042, "0.42 %"),
        (0.0996, "10 %"),
        (12.3, "1230 %"),
    ],
)
def test_drift_in_words(drift: float | None, text: str) -> None:
    assert drift_text(drift) == (f"encoder moved {text}" if text else "")


@pytest.fixture
def slider(qtbot: QtBot) -> StrengthSlider:
    widget = StrengthSlider()
    qtbot.addWidget(widget)
    widget.resize(330, widget.sizeHint().height())
    widget.show()
    qtbot.waitExposed(widget)
    widget.told = []
    widget.valueChanged.connect(widget.told.append)
    return widget


def enter(qtbot: QtBot, slider: StrengthSlider, text: str) -> None:
    slider._field.selectAll()
    if text.isascii():
        qtbot.keyClicks(slider._field, text)
    else:  # QTest aborts at these
        slider._field.insert(text)
    qtbot.keyClick(slider._field, Qt.Key.Key_Return)


def turn_wheel(widget: QWidget) -> None:
    centre = widget.rect().center()
    places = QPointF(centre), QPointF(widget.mapToGlobal(centre)), QPoint(), QPoint(0, 120)
    keys = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False
    QApplication.sendEvent(widget, QWheelEvent(*places, *keys))


def test_dragged_to_its_ends_it_is_free_and_frozen(slider: StrengthSlider, qtbot: QtBot) -> None:
    bar = slider._slider
    middle, far = bar.height() // 2, bar.width() - 1
    handle = next(
        x for x in range(far) if bar.style().sliderValueFromPosition(0, LAST, x, bar.width() - 16) >= bar.value()
    )
    qtbot.mousePress(bar, Qt.MouseButton.LeftButton, pos=QPoint(handle + 8, middle))
    for x in (far, far + 50):
        qtbot.mouseMove(bar, QPoint(x, middle))
    assert slider.value() == math.inf and slider._field.text() == "∞"
    qtbot.mouseMove(bar, QPoint(-20, middle))
    qtbot.mouseRelease(bar, Qt.MouseButton.LeftButton, pos=QPoint(-20, middle))
    assert slider.value() == 0 and slider._field.text() == "0"
    assert len(slider.told) == len(set(slider.told)) and slider.told[-1] == 0, "once per change"


def test_keys_move_it_by_ticks_and_decades(slider: StrengthSlider, qtbot: QtBot) -> None:
    slider.setValue(1e-3)
    slider.told.clear()
    expected = [1.1e-3, 1e-3, 1e-2, 1e-3, math.inf, 0.0]
    for key in ("Right", "Left", "PageUp", "PageDown", "End", "Home"):
        qtbot.keyClick(slider._slider, getattr(Qt.Key, f"Key_{key}"))
    assert slider.told == expected


def test_a_typed_value_is_kept_as_it_is(slider: StrengthSlider, qtbot: QtBot) -> None:
    enter(qtbot, slider, "0.00123456")
    assert slider.value() == 0.00123456 and slider.told == [0.00123456]
    assert slider._slider.value() == tick_of(0.00123456)
    enter(qtbot, slider, "∞")
    assert slider.told[1:] == [math.inf] and slider._slider.value() == LAST


def test_a_wrong_value_is_marked_until_it_is_right(slider: StrengthSlider, qtbot: QtBot) -> None:
    before = slider.value()
    enter(qtbot, slider, "much")
    assert slider.value() == before and not slider.told
    assert "border" in slider._field.styleSheet() and "or inf" in slider._field.toolTip()
    enter(qtbot, slider, "8")
    assert not slider._field.styleSheet() and "stays" in slider._field.toolTip() and slider.value() == 8


def test_setting_the_same_value_says_nothing(slider: StrengthSlider) -> None:
    slider.setValue(0.5)
    slider.setValue(0.5)
    assert slider.told == [0.5]
    with pytest.raises(ValueError, match="0 or more"):
        slider.setValue(math.nan)


def test_without_a_source_it_says_why(slider: StrengthSlider, qtbot: QtBot) -> None:
    slider.setEnabled(False)
    slider.set_note("nothing to hold the encoder to")
    qtbot.keyClick(slider._slider, Qt.Key.Key_Right)
    assert slider._note.isVisible() and not slider.told
    slider.set_note("")
    assert not slider._note.isVisible()


def test_the_wheel_passes_a_slider_that_is_not_in_use(slider: StrengthSlider, qtbot: QtBot) -> None:
    turn_wheel(slider._slider)
    assert not slider.told
    slider.activateWindow()
    slider._slider.setFocus()
    qtbot.waitUntil(slider._slider.hasFocus)
    turn_wheel(slider._slider)
    assert slider.told
