"""The ways to bring images in, each with the folder that it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from napari_tlseg.data.project import adopt_folder
from napari_tlseg.gui.click.adopting import adopt_layers, gather
from napari_tlseg.gui.notices import complain

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session


def open_folder(session: Session) -> None:
    """A dataset folder, or a plain folder of images."""
    if folder := _ask(session, "A folder of images"):
        session.open(folder)


def use_layers(session: Session) -> None:
    """The images that are open in the viewer, with the labels and points on them, in a project folder."""
    found = gather([layer for layer in session.viewer.layers if not session.canvas.owns(layer)])
    if not found:
        complain("No image layer is open; open one first, or a folder of images")
    elif project := _ask(session, "An empty project folder, to keep images, clicks and masks in"):
        words = f"Copying what is open to {project} …"
        session.reader.run(lambda: adopt_layers(found, project), session.open, words=words)


def ask_project(session: Session, folder: Path) -> None:
    """A project folder for one that cannot be written to."""
    if project := _ask(session, f"{folder.name} is read-only: choose a folder to keep clicks and masks in"):
        words = f"Preparing {project} …"
        session.reader.run(lambda: adopt_folder(folder, project), session.open, words=words)


def _ask(session: Session, title: str) -> Path | None:
    chosen = QFileDialog.getExistingDirectory(session.viewer.window._qt_window, title)
    return Path(chosen) if chosen else None
