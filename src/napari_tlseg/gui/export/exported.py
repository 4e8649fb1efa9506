"""What came of an export: which masks were written, and what was compared with their images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.data.formats.opened import NIFTI_SUFFIXES, suffix_of
from napari_tlseg.engine.messages import Failed
from napari_tlseg.errors import InputError
from napari_tlseg.events import Event, Finished, Visited
from napari_tlseg.gui.notices import guarded


@dataclass(kw_only=True)
class Export:
    """One export, and how far it came."""

    run: str
    folder: Path
    cases: tuple[Case, ...]
    written: dict[str, Path] = field(default_factory=dict)
    """By the case's name; each was read back."""

    def mask_of(self, case: Case | None) -> Path | None:
        """Also of a case that was read anew since."""
        known = case is not None and any((case.image, case.page) == (one.image, one.page) for one in self.cases)
        return self.written.get(case.name) if case is not None and known else None

    def words(self, result: Finished | Failed) -> str:
        """What came of it, and no more than was looked at."""
        stopped = "Stopped: " if isinstance(result, Finished) and result.reason == "stopped" else ""
        if not self.written:
            return f"{stopped}no mask was written." if stopped else "No mask was written."
        whole = len(self.written) == len(self.cases)
        masks = counted(len(self.written)) if whole else f"{len(self.written)} of {counted(len(self.cases))}"
        return f"{stopped}{masks} written and read back. {self._proof()}"

    def _proof(self) -> str:
        """What was compared with the images; it depends on what the files can hold."""
        kept = "Each lies pixel for pixel on its image"
        endings = {name: suffix_of(path) for name, path in self.written.items()}
        nifti = {name for name, ending in endings.items() if ending in NIFTI_SUFFIXES}
        if set(endings.values()) == {".png"}:
            return f"{kept}; PNG holds no spacing."
        if any(case.name in nifti and case.geometry.unit == "px" for case in self.cases):
            return f"{kept}; where the image knows no spacing, the file says 1 mm."
        if len(nifti) == len(endings):
            return f"{kept}, with its spacing and orientation."
        return f"{kept}, with its spacing{' where the file can hold one' if '.png' in endings.values() else ''}."


class Result(QWidget):
    """What came of the last export, and what can be done with it."""

    layer_wanted = Signal(object, object, str)
    """Case, the Path of its mask, what to call the layer."""

    def __init__(self) -> None:
        super().__init__()
        self._export: Export | None = None
        self._case: Case | None = None
        self._words = QLabel(wordWrap=True, objectName="result")
        self._open = QPushButton("Open folder", objectName="open_folder", toolTip="Show the masks in the file manager")
        self._layer = QPushButton("Show as layer", objectName="as_layer")
        self._layer.setToolTip("Add the mask of the case shown as a layer of your own")
        buttons = QHBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._words)
        layout.addLayout(buttons)
        for button, slot in ((self._open, self._open_folder), (self._layer, self._want_layer)):
            button.clicked.connect(slot)
            buttons.addWidget(button)
        self.clear()

    def clear(self) -> None:
        self._export = None
        self.setVisible(False)

    def begin(self, export: Export) -> None:
        self._export = export
        self.setVisible(False)

    def hear(self, event: Event) -> None:
        if self._export is not None and isinstance(event, Visited) and event.path is not None:
            self._export.written[event.case] = event.path

    def end(self, result: Finished | Failed) -> None:
        if self._export is not None:
            self._words.setText(self._export.words(result))
            self._open.setEnabled(bool(self._export.written))
            self.setVisible(True)

    def look_at(self, case: Case | None) -> None:
        """The case that is shown now."""
        self._case = case
        self._layer.setEnabled(self._export is not None and self._export.mask_of(case) is not None)

    @guarded
    def _open_folder(self) -> None:
        folder = self._export.folder if self._export is not None else Path()
        if not folder.is_dir():
            raise InputError("is no longer there", folder, "export the masks again")
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            raise InputError("cannot be shown by this computer", folder, "open it in your file manager")

    @guarded
    def _want_layer(self) -> None:
        path = self._export.mask_of(self._case) if self._export is not None else None
        if self._export is not None and self._case is not None and path is not None:
            self.layer_wanted.emit(self._case, path, f"{self._case.name} ({self._export.run})")


def counted(masks: int) -> str:
    return f"{masks} mask{'' if masks == 1 else 's'}"
