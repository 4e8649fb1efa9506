"""Someone at the screen, who finds things by what is written on them, and has a mouse and a keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hands import Hands
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSlider,
    QTabBar,
    QTableWidget,
    QWidget,
)

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

LEFT = Qt.MouseButton.LeftButton
CTRL = Qt.KeyboardModifier.ControlModifier
PATIENCE = 90_000


class User:
    """What is waited for comes within 90 seconds."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self._viewer, self._qtbot = viewer, qtbot
        self.window: QWidget = viewer.window._qt_window
        self.window.resize(1200, 980)
        self._hands = Hands(viewer)

    def wait(self, holds: Callable[[], bool]) -> None:
        self._qtbot.waitUntil(holds, timeout=PATIENCE)

    def menu(self, *words: str) -> None:
        """Click through the menu bar."""
        menu, names = self.window.menuBar(), list(words)
        while names:
            action = next(each for each in menu.actions() if each.text().replace("&", "").startswith(names[0]))
            QTest.mouseClick(menu, LEFT, pos=menu.actionGeometry(action).center())
            QTest.qWait(100)
            names.pop(0)
            menu = action.menu()

    def tab(self, words: str) -> None:
        bar = self._shown(QTabBar, lambda bar: words in [bar.tabText(index) for index in range(bar.count())])
        index = [bar.tabText(each) for each in range(bar.count())].index(words)
        QTest.mouseClick(bar, LEFT, pos=bar.tabRect(index).center())
        QTest.qWait(200)

    def press(self, words: str) -> None:
        """A button, once it can be pressed."""
        self.wait(lambda: self.button(words).isEnabled())
        button = self.button(words)
        QTest.mouseClick(button, LEFT, pos=QPoint(min(12, button.width() // 2), button.height() // 2))

    def button(self, words: str) -> Any:
        """The one that is called so, or whose name begins so."""
        shown = [each.text() for each in self.window.findChildren(QAbstractButton) if each.isVisible()]
        holds = words.__eq__ if words in shown else lambda text: text.startswith(words)
        return self._shown(QAbstractButton, lambda button: holds(button.text()))

    def reads(self, words: str) -> bool:
        """Whether these words are on the screen."""
        return any(words in label.text() for label in self.window.findChildren(QLabel) if label.isVisible())

    def sees(self, name: str) -> bool:
        """Whether there is a layer whose name begins so."""
        return any(layer.name.startswith(name) for layer in self._viewer.layers)

    def field(self, words: str, text: str) -> None:
        """Type into the field with this name beside it."""
        editor = self._beside(words)
        line = editor if isinstance(editor, QLineEdit) else editor.findChild(QLineEdit)
        self.type_into(line, text)

    def type_into(self, line: QWidget, text: str) -> None:
        QTest.mouseClick(line, LEFT)
        QTest.keyClick(line, Qt.Key.Key_A, CTRL)
        QTest.keyClicks(line, text)
        QTest.keyClick(line, Qt.Key.Key_Return)

    def choose(self, name: str, words: str) -> None:
        """In a box with choices, by the first letter, which is typed until it is the right one."""
        box = self._shown(QComboBox, lambda box: box.objectName() == name)
        box.setFocus()
        for _ in range(box.count()):
            if not box.currentText().startswith(words):
                QTest.qWait(QApplication.keyboardInputInterval() + 100)  # or two letters count as one word
                QTest.keyClicks(box, words[0])
        assert box.currentText().startswith(words)

    def slide(self, key: Qt.Key) -> None:
        """The λ slider, by a key."""
        slider = self._shown(QSlider, lambda slider: slider.accessibleName() == "λ" or slider.maximum() > 100)
        QTest.mouseClick(slider, LEFT, pos=QPoint(slider.width() // 2, slider.height() // 2))
        QTest.keyClick(slider, key)

    def row(self, table: str, number: int) -> str:
        """Click a row of a table, and read its first cell."""
        found = self._shown(QTableWidget, lambda each: each.objectName() == table)
        QTest.mouseClick(found.viewport(), LEFT, pos=found.visualItemRect(found.item(number, 0)).center())
        return str(found.item(number, 0).text())

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        QTest.keyClick(self._hands.canvas, key, modifier)

    def click_image(self, y: float, x: float) -> None:
        """Where the image shown has this pixel."""
        self._hands.click(self._viewer.layers[0], y, x)

    def paint(self, *places: tuple[float, float]) -> None:
        """A stroke of the mouse over the image."""
        self._hands.drag_pixels(self._viewer.layers[0], *places)

    def canvas(self) -> NDArray[np.uint8]:
        """(Y, X, 3), what is seen of the images."""
        return self._viewer.screenshot(canvas_only=True, flash=False)[..., :3]

    def choose_folder(self, words: str, folder: Path) -> None:
        """Press a button that asks for a folder, and type its path."""

        def answer() -> None:
            dialog = QApplication.activeModalWidget()
            if not isinstance(dialog, QFileDialog):
                QTimer.singleShot(50, answer)
                return
            line = dialog.findChild(QLineEdit, "fileNameEdit")
            QTest.qWait(500)  # the dialog reads the folder that it begins in, and writes its name
            line.selectAll()
            QTest.keyClicks(line, str(folder))
            QTest.qWait(300)
            assert line.text().rstrip("/") == str(folder)
            choose = next(each for each in dialog.findChildren(QPushButton) if "Choose" in each.text())
            QTest.mouseClick(choose, LEFT)

        QTimer.singleShot(100, answer)
        self.press(words)

    def _beside(self, words: str) -> Any:
        for label in self.window.findChildren(QLabel):
            if label.isVisible() and label.text().startswith(words):
                form = label.parentWidget().layout()
                for row in range(form.rowCount()) if isinstance(form, QFormLayout) else ():
                    item = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
                    if item is not None and item.widget() is label:
                        field = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
                        return field.widget() or field.layout().itemAt(0).widget()
        raise AssertionError(f"nothing on the screen is called {words!r}")

    def _shown(self, kind: type, holds: Callable[[Any], bool]) -> Any:
        found = [each for each in self.window.findChildren(kind) if each.isVisible() and holds(each)]
        assert found, f"no {kind.__name__} like that is on the screen"
        return found[0]
