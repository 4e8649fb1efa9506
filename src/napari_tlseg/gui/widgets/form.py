"""The fields of a job as labelled rows: names, defaults, choices and help are those of its dataclass."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_origin, get_type_hints

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_tlseg.errors import InputError
from napari_tlseg.gui.widgets.fields import CalmWheel, Check, Choice, Choices, Editor, as_tooltip, editor_for, mark


@cache
def field_help(job_class: type) -> dict[str, str]:
    """The docstrings under the fields of a dataclass and of its bases, by the field's name."""
    found: dict[str, str] = {}
    for each in reversed(job_class.__mro__):
        if is_dataclass(each):
            found |= _docstrings(each)
    return {field.name: found.get(field.name, "") for field in fields(job_class)}


def _docstrings(one_class: type) -> dict[str, str]:
    body = cast("ast.ClassDef", ast.parse(textwrap.dedent(inspect.getsource(one_class))).body[0]).body
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = " ".join(words.split())
    return found


class Form(QWidget):
    """Some fields of a job, to be edited.

    choices: for fields that are text. labels: where a field's own name is not what a user would call it.
    """

    valueChanged = Signal()

    def __init__(
        self,
        job_class: type,
        names: Iterable[str],
        choices: Mapping[str, Choices] | None = None,
        labels: Mapping[str, str] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._job_class, self._defaults, self._help = job_class, _defaults(job_class), field_help(job_class)
        hints = get_type_hints(job_class)
        self._assumed: dict[str, Any] = {}
        for name in (name for name, value in self._defaults.items() if value is MISSING):
            self._assumed[name] = (Path(),) if get_origin(hints[name]) is tuple else Path()
        self._labels = {name: name.replace("_", " ").capitalize() for name in self._defaults} | dict(labels or {})
        self._editors: dict[str, Editor] = {}
        self._problems: dict[str, QLabel] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in names:
            self._add_row(name, editor_for(hints[name], self._defaults[name], (choices or {}).get(name)))
        self._good = {name: self._defaults[name] for name in self._editors}
        self._told = self.value()
        self._show_problems()

    def value(self) -> dict[str, Any]:
        """Of all fields shown; of one with text that means nothing, what it was before."""
        for name, editor in self._editors.items():
            try:
                self._good[name] = editor.read()
            except InputError:
                continue
        return dict(self._good)

    def setValue(self, values: Mapping[str, Any]) -> None:
        """Fields that are not shown are passed over."""
        for name in values.keys() & self._editors.keys():
            with QSignalBlocker(self._editors[name].native):
                self._editors[name].show(values[name])
        self._notice()

    def assume(self, values: Mapping[str, Any]) -> None:
        """What fields are that are not shown: a problem of the others may depend on it."""
        self._assumed |= values
        self._show_problems()

    def set_choices(self, name: str, choices: Choices) -> None:
        """What a field can be from now on; its value stays."""
        editor = self._editors[name]
        if not isinstance(editor, Choice):
            raise TypeError(f"{name} was made without choices")
        with QSignalBlocker(editor.native):
            editor.offer(choices)

    def problems(self) -> dict[str, str]:
        """A sentence for each field that cannot be as it is; empty where the job can be made."""
        values, found = self.value(), {}
        for name, editor in self._editors.items():
            try:
                editor.read()
            except InputError as error:
                found[name] = self._in_words(error)
        while sentence := self._refusal(values):
            name = next((each for each in values if self._is_culprit(each, values, sentence)), "")
            if not name:  # the fields that are not shown are at odds
                break
            found[name], values[name] = sentence, self._defaults[name]
        return found

    def _is_culprit(self, name: str, values: dict[str, Any], sentence: str) -> bool:
        default = self._defaults[name]
        return values[name] != default and self._refusal({**values, name: default}) != sentence

    def _refusal(self, values: dict[str, Any]) -> str:
        """Why the job cannot be made of these values."""
        try:
            self._job_class(**self._assumed | values)
        except InputError as error:
            return self._in_words(error)
        return ""

    def _in_words(self, error: InputError) -> str:
        """A flag of the command line as the label of its field."""
        called = {name.replace("_", "-"): label for name, label in self._labels.items()} | {"lambda": "λ"}
        return re.sub("--([a-z-]+)", lambda flag: called.get(flag[1], flag[1]), str(error))

    def _add_row(self, name: str, editor: Editor) -> None:
        self._editors[name] = editor
        native, problem = editor.native, QLabel()
        native.setAccessibleName(self._labels[name])
        native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        native.installEventFilter(CalmWheel(native))
        problem.setWordWrap(True)
        self._problems[name] = problem
        cell = QVBoxLayout()
        cell.setSpacing(2)
        cell.addWidget(native)
        cell.addWidget(problem)
        label = QLabel("" if isinstance(editor, Check) else self._labels[name])
        if isinstance(editor, Check):
            editor.native.setText(self._labels[name])
        label.setBuddy(native)
        label.setToolTip(as_tooltip(self._help[name]))
        cast("QFormLayout", self.layout()).addRow(label, cell)
        for signal in editor.signals:
            signal.connect(self._notice)

    def _notice(self, *_: object) -> None:
        self._show_problems()
        if (value := self.value()) != self._told:
            self._told = value
            self.valueChanged.emit()

    def _show_problems(self) -> None:
        found = self.problems()
        for name, label in self._problems.items():
            problem = found.get(name, "")
            label.setText(problem)
            label.setVisible(bool(problem))
            mark(self._editors[name].native, problem)
            self._editors[name].native.setToolTip(as_tooltip(problem or self._help[name]))


def _defaults(job_class: type) -> dict[str, Any]:
    """MISSING where a field must be given."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(job_class)
    }
