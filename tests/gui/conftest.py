"""A napari window on a real screen, closed without a trace."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import segmentation_models_pytorch  # noqa: F401  it brings Triton, which with Mesa's LLVM crashes if a window came first

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot


@pytest.fixture
def viewer(qtbot: QtBot) -> Iterator[Viewer]:
    """A shown viewer, without the plugins' own windows; afterwards no window and no running timer is left of it."""
    from napari import Viewer
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    before = set(QApplication.topLevelWidgets())
    viewer = Viewer(show=True)
    qtbot.waitExposed(viewer.window._qt_window)
    yield viewer
    viewer.close()
    del viewer
    gc.collect()
    qtbot.wait(50)
    assert not set(QApplication.topLevelWidgets()) - before
    assert not [each for each in gc.get_objects() if issubclass(type(each), QTimer) and each.isActive()]
