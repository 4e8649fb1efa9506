"""The model of a run as one file, for another training or a colleague."""

from __future__ import annotations

import shutil
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_tlseg.data.files import atomic_path
from napari_tlseg.errors import InputError
from napari_tlseg.gui.background import Background
from napari_tlseg.gui.notices import guarded, say
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.fields import as_tooltip

USE = "A colleague picks it as a source in Train, or predicts with it from the command line."
SUFFIX = ".safetensors"


class SaveModel(QPushButton):
    """Asks where the model of the run goes, and copies it there."""

    def __init__(self, writer: Background) -> None:
        super().__init__("Save model file …", objectName="save_model", toolTip=as_tooltip(USE))
        self.run: Run | None = None
        self._writer = writer
        self.clicked.connect(self._save)

    @guarded
    def _save(self) -> None:
        if self.run is None:
            return
        start = str(self.run.path.parent.parent / f"{self.run.name}{SUFFIX}")
        chosen, _filter = QFileDialog.getSaveFileName(self, "Save the model file", start, f"Models (*{SUFFIX})")
        if chosen:
            model, target = self.run.path / "model.safetensors", _named(Path(chosen))
            self._writer.run(lambda: _copy(model, target), lambda _: say(f"Saved {target}. {USE}"))


def _named(path: Path) -> Path:
    """With the suffix by which models are known; the file dialog did not ask about a file of that name."""
    if path.name.endswith(SUFFIX):
        return path
    named = path.with_name(path.name + SUFFIX)
    if named.exists():
        raise InputError("is there already", named, "choose another name")
    return named


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as path:
        shutil.copyfile(source, path)
