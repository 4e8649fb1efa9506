"""All four docks in one, in the order of the journey, and napari opened with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QTabWidget

from napari_tlseg.gui.click.dock import ClickDock
from napari_tlseg.gui.export.dock import ExportDock
from napari_tlseg.gui.review.dock import ReviewDock
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.dock import TrainDock

if TYPE_CHECKING:
    import napari

PLUGIN, NAME = "napari-tlseg", "Workbench"
WIDTH = 60
"""Characters."""
TABS = "QTabBar { border: 0; padding: 0 } QTabBar::tab { margin-top: 4px; padding: 3px 8px }"
"""napari's title of a dock lies over the upper 4 pixels of what is docked."""


class Workbench(QTabWidget):
    """Click targets, train, review errors, export masks."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.tabBar().setStyleSheet(TABS)
        docks = (ClickDock, "1 Click"), (TrainDock, "2 Train"), (ReviewDock, "3 Review"), (ExportDock, "4 Export")
        for make, title in docks:
            self.addTab(make(napari_viewer), title)

    def sizeHint(self) -> QSize:
        """Narrow: the image is what the user looks at."""
        return QSize(WIDTH * self.fontMetrics().averageCharWidth(), super().sizeHint().height())


def open_workbench(viewer: napari.viewer.Viewer) -> None:
    """Dock it, or bring it forward where it is docked already."""
    viewer.window.add_plugin_dock_widget(PLUGIN, NAME)


def launch(data: Path | None = None) -> None:
    """Open napari with the workbench, and a folder in it; returns when the window is closed."""
    import napari

    viewer = napari.Viewer(title=PLUGIN)
    open_workbench(viewer)
    if data is not None:
        Session.of(viewer).open(data)
    napari.run()
