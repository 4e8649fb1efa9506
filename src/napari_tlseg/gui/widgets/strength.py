"""The slider for λ: integer ticks over eight decades, with 0 and ∞ as its ends."""

from __future__ import annotations

import math
from decimal import Decimal

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QSlider, QStyle, QStyleOptionSlider, QVBoxLayout, QWidget

from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.gui.widgets.fields import CalmWheel, as_tooltip, mark
from napari_tlseg.gui.widgets.form import field_help

LOWEST, DECADES, PER_DECADE = -6, 8, 20
"""Of the interior: 1e-6 to 1e2, where the drift of the encoder goes from free to still."""
STRENGTHS = (
    0.0,
    *(float(f"{10 ** (LOWEST + step / PER_DECADE):.1e}") for step in range(DECADES * PER_DECADE + 1)),
    math.inf,
)
"""λ of each tick, ascending; two significant digits, so that what is read is what is meant."""
LAST = len(STRENGTHS) - 1
_LABELS = {0: "0 free", LAST: "∞ frozen"} | {
    1 + PER_DECADE * (power - LOWEST): text for power, text in ((-4, "1e-4"), (-2, "0.01"), (0, "1"))
}


def tick_of(strength: float) -> int:
    """The nearest tick, by ratio; only 0 is at the tick of 0, and only ∞ at that of ∞."""
    if strength == 0 or math.isinf(strength):
        return 0 if strength == 0 else LAST
    return min(range(1, LAST), key=lambda tick: abs(math.log(strength) - math.log(STRENGTHS[tick])))


def strength_text(strength: float) -> str:
    """As short as it can be and still the exact value.

    >>> [strength_text(value) for value in (0.0, 1e-3, 0.00123, 0.5, 8.0, math.inf)]
    ['0', '1e-3', '1.23e-3', '0.5', '8', '∞']
    """
    if math.isinf(strength):
        return "∞"
    exact = Decimal(repr(strength)).normalize()
    return f"{exact:f}" if strength == 0 or 1e-2 <= strength < 1e4 else f"{exact:e}"


def read_strength(text: str) -> float:
    """What was typed: 0, 1e-3, 0.001, inf, ∞; InputError with what is possible."""
    try:
        strength = float(text.strip().replace("∞", "inf"))
    except ValueError:
        strength = math.nan
    if not strength >= 0:  # nor is NaN
        raise InputError(f"λ cannot be '{text.strip()}'", remedy="give 0, a number such as 0.001 or 1e-3, or inf")
    return abs(strength)  # -0.0 is 0


def drift_text(drift: float | None) -> str:
    """‖θ − θ̄‖ / ‖θ̄‖ in words.

    >>> drift_text(0.134), drift_text(0.0042), drift_text(None)
    ('encoder moved 13 %', 'encoder moved 0.42 %', '')
    """
    if drift is None or not math.isfinite(drift):
        return ""
    percent = 100 * drift
    small = "< 0.01" if 0 < percent < 0.01 else f"{percent:.2g}"
    return f"encoder moved {small if percent < 9.95 else f'{percent:.0f}'} %"


class StrengthSlider(QWidget):
    """λ by slider or typed, and beside it how far the encoder went with it."""

    valueChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value = Finetune.strength
        self._field, self._drift, self._note = QLineEdit(), QLabel(), QLabel()
        self._slider = _slider(self)
        self._name = QLabel("Strength λ")
        self._build()
        self._slider.valueChanged.connect(self._slid)
        self._field.editingFinished.connect(self._typed)
        self.set_drift(None)
        self.set_note("")
        self._show()

    def value(self) -> float:
        return self._value

    def setValue(self, strength: float) -> None:
        """0 ≤ λ ≤ ∞, kept exactly."""
        if not strength >= 0:
            raise ValueError(f"λ must be 0 or more, not {strength}")
        self._take(float(strength))

    def set_drift(self, drift: float | None) -> None:
        """‖θ − θ̄‖ / ‖θ̄‖; None where it is not known."""
        self._drift.setText(drift_text(drift).removeprefix("encoder "))

    def set_note(self, text: str) -> None:
        """A line below, such as why λ cannot be chosen now; empty for none."""
        self._note.setText(text)
        self._note.setVisible(bool(text))

    def _build(self) -> None:
        self._field.setFixedWidth(self.fontMetrics().horizontalAdvance("1.2345e-6") * 3 // 2)
        self._field.setAccessibleName("Strength λ")
        self._name.setBuddy(self._field)
        self._drift.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._drift.setToolTip(
            as_tooltip("How far the encoder's weights have gone from the source's, relative to these.")
        )
        self._note.setWordWrap(True)
        top = QHBoxLayout()
        for widget in (self._name, self._field):
            top.addWidget(widget)
        top.addWidget(self._drift, 1)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        rows.addLayout(top)
        for row in (self._slider, _Scale(self._slider), self._note):
            rows.addWidget(row)
        self._say_help()

    def _say_help(self) -> None:
        help = "How closely the encoder stays to what it learned elsewhere. " + field_help(Finetune)["strength"]
        for widget in (self._name, self._field, self._slider):
            widget.setToolTip(as_tooltip(help))

    def _slid(self, tick: int) -> None:
        self._take(STRENGTHS[tick])

    def _typed(self) -> None:
        try:
            self._take(read_strength(self._field.text()))
        except InputError as error:
            mark(self._field, str(error))
            self._field.setToolTip(as_tooltip(str(error)))

    def _take(self, strength: float) -> None:
        changed, self._value = strength != self._value, strength
        self._show()
        if changed:
            self.valueChanged.emit(strength)

    def _show(self) -> None:
        mark(self._field, "")
        self._say_help()
        self._field.setText(strength_text(self._value))
        with QSignalBlocker(self._slider):
            self._slider.setValue(tick_of(self._value))


def _slider(parent: QWidget) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal, parent)
    slider.setRange(0, LAST)
    slider.setPageStep(PER_DECADE)
    slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    slider.setAccessibleName("Strength λ")
    slider.installEventFilter(CalmWheel(slider))
    return slider


class _Scale(QWidget):
    """The labels under the slider: both ends, and of the decades those for which there is room."""

    def __init__(self, slider: QSlider) -> None:
        super().__init__(slider.parentWidget())
        self._slider = slider

    def sizeHint(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance("  ".join(_LABELS.values())), self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.fontMetrics().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, metrics = QPainter(self), self.fontMetrics()
        painter.setPen(self.palette().color(self.foregroundRole()))
        gap, baseline = metrics.horizontalAdvance("  "), metrics.ascent()
        taken: list[tuple[int, int]] = []
        for tick, text in _LABELS.items():  # the ends come first
            width = metrics.horizontalAdvance(text)
            left = min(max(self._x(tick) - width // 2, 0), self.width() - width)
            if all(left >= end + gap or left + width + gap <= start for start, end in taken):
                painter.drawText(left, baseline, text)
                taken.append((left, left + width))
        painter.end()

    def _x(self, tick: int) -> int:
        """Where the middle of the handle is at a tick."""
        option = QStyleOptionSlider()
        self._slider.initStyleOption(option)
        handle = self._slider.style().pixelMetric(QStyle.PixelMetric.PM_SliderLength, option, self._slider)
        left: int = QStyle.sliderPositionFromValue(0, LAST, tick, self._slider.width() - handle)
        return left + int(handle) // 2
