"""The fields of a form: one small class per kind of value, over magicgui's widgets where these can show it."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, get_origin

from magicgui.widgets import create_widget
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QCompleter, QSpinBox, QWidget

from napari_tlseg.errors import InputError

Choices = Sequence[str] | Mapping[str, str]
"""Values, or values with what they are called."""
AUTO = "auto"
"""How None is shown."""
MOST = 10**7
MANY = 12
"""Of more choices than these the name can be typed."""


def as_tooltip(text: str) -> str:
    """Qt wraps rich text only; `names` in slanted letters."""
    words = re.sub("`(.*?)`", r"<i>\1</i>", html.escape(text, quote=False))
    return f"<qt>{words}</qt>" if words else ""


def mark(editor: QWidget, problem: str) -> None:
    """Put a frame in the theme's colour of errors around a field; take it away where there is no problem."""
    dark = editor.palette().color(QPalette.ColorRole.Window).lightness() < 128
    colour = get_theme("dark" if dark else "light").error.as_hex()
    kind = editor.metaObject().className()
    style = f"{kind} {{ border: 1px solid {colour}; }}" if problem else ""
    if style != editor.styleSheet():
        editor.setStyleSheet(style)


class CalmWheel(QObject):
    """An event filter: scrolling a panel leaves the fields alone that pass under the mouse."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


class Editor(Protocol):
    """One field: a widget and how it is read and written."""

    native: Any
    signals: tuple[Any, ...]
    """Emitted when the user is through with a change."""

    def read(self) -> Any:
        """InputError where it is nothing that can be read."""

    def show(self, value: Any) -> None: ...


def editor_for(hint: Any, default: Any, choices: Choices | None) -> Editor:
    kinds = set(get_args(hint)) or {hint}
    optional = type(None) in kinds
    if get_origin(hint) is Literal:
        editor: Editor = Choice(choices or get_args(hint), optional=False)
    elif choices is not None:
        editor = Choice(choices, optional)
    elif bool in kinds:
        editor = Check()
    elif int in kinds:
        editor = Integer(0 if optional else min(1, default), optional)
    elif float in kinds:
        editor = Text(_read_number, _number_text)
    elif get_origin(hint) is tuple:
        editor = Text(_read_names, ", ".join)
    else:
        editor = Text(lambda text: text or (None if optional else ""), lambda value: value or "")
    editor.show(default)
    return editor


class Check:
    def __init__(self) -> None:
        self.native = create_widget(annotation=bool).native
        self.signals = (self.native.toggled,)

    def read(self) -> bool:
        return bool(self.native.isChecked())

    def show(self, value: bool) -> None:
        self.native.setChecked(value)


class Integer:
    """magicgui's own has no word for a special value."""

    def __init__(self, least: int, optional: bool) -> None:
        self.native, self._optional = QSpinBox(), optional
        self.native.setRange(least, MOST)
        self.native.setSpecialValueText(AUTO if optional else "")
        self.native.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.native.setKeyboardTracking(False)
        self.signals = (self.native.valueChanged,)

    def read(self) -> int | None:
        """Also a number that is still being typed."""
        text = self.native.cleanText()
        number = max(int(text), self.native.minimum()) if text.isdecimal() else self.native.value()
        return None if self._optional and number == self.native.minimum() else number

    def show(self, value: int | None) -> None:
        self.native.setValue(self.native.minimum() if value is None else value)


class Text:
    """Text that stands for a value."""

    def __init__(self, read: Callable[[str], Any], show: Callable[[Any], str]) -> None:
        self.native = create_widget(annotation=str).native
        self.signals = (self.native.editingFinished,)
        self._read, self._show = read, show

    def read(self) -> Any:
        return self._read(self.native.text().strip())

    def show(self, value: Any) -> None:
        self.native.setText(self._show(value))
        self.native.setCursorPosition(0)


class Choice(QObject):
    """One of some names; of many by typing a part of it. To the widget None is an empty text."""

    typed = Signal()

    def __init__(self, choices: Choices, optional: bool) -> None:
        super().__init__()
        self._optional, self._called = optional, {"": AUTO}
        self._widget: Any = create_widget(value="", widget_type="ComboBox", options={"choices": self._pairs})
        self.native = self._widget.native
        self.setParent(self.native)
        self.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.signals = (self.native.currentIndexChanged, self.typed)
        self._put(self._named(choices))

    def read(self) -> str | None:
        text = self.native.currentText().strip()
        index = self.native.findText(text, Qt.MatchFlag.MatchFixedString)
        if index < 0:
            raise InputError(f"there is no '{text}'", remedy="choose from the list")
        return self.native.itemData(index) or None

    def show(self, value: str | None) -> None:
        """Also one that was not offered, such as that of an earlier run."""
        if self.native.findData(value or "") < 0:
            self._put({**self._called, value or "": str(value)})
        self._widget.value = value or ""

    def offer(self, choices: Choices) -> None:
        """Other choices; the value stays, and so does what is being typed."""
        value, text, before = self._widget.value, self.native.currentText(), self._called
        self._put(self._named(choices))
        self.show(value)
        if text != before[value]:
            self.native.setEditText(text)

    def _named(self, choices: Choices) -> dict[str, str]:
        named = dict(choices) if isinstance(choices, Mapping) else {value: value for value in choices}
        return {"": AUTO, **named} if self._optional else named

    def _pairs(self, _: object) -> list[tuple[str, str]]:
        """Asked for whenever the widget finds a new parent."""
        return [(name, value) for value, name in self._called.items()]

    def _put(self, called: dict[str, str]) -> None:
        self._called = called
        self._widget.reset_choices()
        if len(called) > MANY and not self.native.isEditable():
            self._let_type()

    def _let_type(self) -> None:
        self.native.setEditable(True)
        self.native.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        completer = self.native.completer()
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        self.native.lineEdit().editingFinished.connect(self.typed)


def _read_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise InputError(f"'{text}' is not a number", remedy="give one such as 0.5 or 1e-3")
    return number


def _number_text(number: float) -> str:
    """The exact value: 0.001, 1e-05, 0."""
    return repr(float(number)).removesuffix(".0")


def _read_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
