"""A part of a dock that scrolls where there is not enough room for it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QWidget

LEAST = 8
"""Lines of text that stay in sight."""


class Shrinking(QScrollArea):
    """As high as its content where there is room, or higher where that is Expanding; never too narrow for it."""

    def __init__(self, content: QWidget) -> None:
        super().__init__(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def sizeHint(self) -> QSize:
        return QSize(self.minimumSizeHint().width(), self._whole())

    def minimumSizeHint(self) -> QSize:
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, min(LEAST * self.fontMetrics().lineSpacing(), self._whole()))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return bool(super().eventFilter(watched, event))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self.widget().sizePolicy().verticalPolicy() != QSizePolicy.Policy.Expanding:
            self.setMaximumHeight(self._whole())
        self.updateGeometry()

    def _whole(self) -> int:
        """The height at which nothing scrolls."""
        content, frame = self.widget(), self.height() - self.viewport().height()
        flows = content.hasHeightForWidth()
        height = content.heightForWidth(self.width() - frame) if flows else content.sizeHint().height()
        return int(max(height, content.minimumSizeHint().height()) + frame)  # of text that flows the larger
