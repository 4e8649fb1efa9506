"""A choice that makes its dock no wider, however long its words."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox

from napari_tlseg.gui.widgets.fields import as_tooltip


class NarrowChoice(QComboBox):
    def __init__(self, name: str, tip: str, letters: int = 12) -> None:
        super().__init__(objectName=name, toolTip=as_tooltip(tip))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(letters)
