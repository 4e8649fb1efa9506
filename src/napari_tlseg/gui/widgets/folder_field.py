"""A folder as a field: typed, or chosen in a dialog."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_tlseg.gui.notices import guarded


class FolderField(QWidget):
    """A folder as text, with a button to choose one. What is offered gives way to what the user names."""

    valueChanged = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.base: Path | None = None
        """Where a relative path begins."""
        self._offered = ""
        self._line = QLineEdit(objectName="folder", toolTip="Where the masks go; it is made when it is needed")
        browse = QPushButton("Browse …", objectName="browse", toolTip="Choose another folder")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line, 1)
        layout.addWidget(browse)
        self._line.textChanged.connect(self.valueChanged)
        browse.clicked.connect(self._choose)

    def text(self) -> str:
        return str(self._line.text()).strip()

    def value(self) -> Path:
        """Absolute."""
        return ((self.base or Path()) / Path(self.text()).expanduser()).absolute()

    def setValue(self, text: str) -> None:
        self._line.setText(text)

    def offer(self, folder: Path) -> None:
        if self.text() in ("", self._offered):
            self._offered = str(folder)
            self.setValue(self._offered)

    @guarded
    def _choose(self) -> None:
        value = self.value()
        start = next(path for path in (value, *value.parents) if path.is_dir())
        chosen = QFileDialog.getExistingDirectory(self, "A folder for the masks", str(start))
        if chosen:
            self.setValue(chosen)
