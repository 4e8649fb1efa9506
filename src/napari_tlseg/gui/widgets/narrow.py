"""A choice that makes its dock no wider, however long its words."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QStylePainter

from napari_tlseg.gui.widgets.fields import as_tooltip


class NarrowChoice(QComboBox):
    """Words for which there is no room end in an ellipsis; the list shows them whole."""

    def __init__(self, name: str, tip: str, letters: int = 12) -> None:
        super().__init__(objectName=name, toolTip=as_tooltip(tip))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(letters)

    def paintEvent(self, event: QPaintEvent) -> None:
        option, control = QStyleOptionComboBox(), QStyle.ComplexControl.CC_ComboBox
        self.initStyleOption(option)
        room = self.style().subControlRect(control, option, QStyle.SubControl.SC_ComboBoxEditField, self)
        option.currentText = self.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideRight, room.width() - 2
        )
        with QStylePainter(self) as painter:
            painter.drawComplexControl(control, option)
            painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
