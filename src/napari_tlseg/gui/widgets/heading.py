"""What a part of a dock is about."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel


def heading(text: str) -> QLabel:
    """A label in bold letters."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label
