"""Whether centres are proposed while one clicks, and what comes of it."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_tlseg.gui.click.assistant import Assistant
from napari_tlseg.gui.notices import guarded

TIP = (
    "A small network learns from your clicks in the background, and learns on after every few more. "
    "It is not kept, and gives way to any training that you start."
)


class HelpBox(QWidget):
    """A tick, and a sentence below it."""

    def __init__(self, assistant: Assistant) -> None:
        super().__init__()
        self._assistant = assistant
        self._tick = QCheckBox("Propose the next centres while I click", objectName="help", toolTip=TIP)
        self._words = QLabel(objectName="help words", wordWrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._tick)
        layout.addWidget(self._words)
        self._tick.setChecked(assistant.wanted)
        self._tick.toggled.connect(guarded(assistant.want))
        assistant.changed.connect(self._tell)
        self._tell()

    def _tell(self) -> None:
        self._tick.setEnabled(self._assistant.possible)
        self._tick.setChecked(self._assistant.wanted)
        self._words.setText(self._assistant.words)
