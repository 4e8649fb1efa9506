"""The end of a window: while a training runs the user is asked first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMessageBox

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session


class Closing(QObject):
    """Watches the window of a session, and ends the session with it."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        session.viewer.window._qt_window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """After us napari may ask too, and be told no: only what closes ends the session."""
        if event.type() != QEvent.Type.Close or self._session.closed:
            return False
        if self._session.training and self._in_use and not self._ask():
            event.ignore()
            return True
        watched.event(event)
        if event.isAccepted():
            self._session.close()
        return True

    @property
    def _in_use(self) -> bool:
        """Whether someone looks at the viewer: `viewer.close()` hides it before it closes the window, a person not."""
        return bool(self._session.viewer.window._qt_viewer.isVisible())

    def _ask(self) -> bool:
        answer = QMessageBox.question(
            self._session.viewer.window._qt_window,
            "A training is running",
            "Closing this window ends the training. What it learned up to its last best model is kept. Close?",
            QMessageBox.StandardButton.Close | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        return bool(answer == QMessageBox.StandardButton.Close)
