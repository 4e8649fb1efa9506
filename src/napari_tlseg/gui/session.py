"""What the docks of one viewer share: the open folder, the case on the canvas, the worker. Docks emit, it decides."""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.files import writable
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.run import is_run
from napari_tlseg.engine.trainings import Anchored, Training
from napari_tlseg.gui.background import Background
from napari_tlseg.gui.canvas.images import Images
from napari_tlseg.gui.canvas.layers import LayerData
from napari_tlseg.gui.canvas.painting import Painter
from napari_tlseg.gui.canvas.roles import Canvas
from napari_tlseg.gui.click.clicks import Clicks
from napari_tlseg.gui.closing import Closing
from napari_tlseg.gui.notices import complain, explained, guarded
from napari_tlseg.gui.progress import Activity
from napari_tlseg.gui.review.preview import Preview
from napari_tlseg.gui.runner import Runner, Task
from napari_tlseg.gui.runs import Run, runs_of
from napari_tlseg.studies.jobs import Study

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

AHEAD = 3
"""So many cases are read before they are asked for."""


class Session(QObject):
    """One per viewer, made by the first dock that opens and ended with the window."""

    opened = Signal()
    """Another folder is open, or the same was read anew."""
    case_shown = Signal(object)
    """The Case whose image is on the canvas now."""
    clicks_changed = Signal()
    masks_changed = Signal()
    """A mask was saved: the dataset was read anew."""
    runs_changed = Signal()
    """A run or a source is there that was not, or is finished."""
    run_shown = Signal(object)
    """The Run that is looked at, and gone on from; or None."""
    project_wanted = Signal(object)
    """The Path of a folder that cannot be written to: a project folder is to be chosen."""

    def __init__(self, viewer: Viewer) -> None:
        window = viewer.window._qt_window
        super().__init__(window)
        self._viewer = weakref.ref(viewer)
        self.canvas = Canvas(viewer)
        self.runner = Runner(self)
        self.runner.ended.connect(self._trained)
        self.activity = Activity(self.runner)
        self.reader = Background(self, "read images")
        self.images = Images(self.reader)
        self.painter = Painter(self)
        self.preview = Preview(self)
        self.dataset: Dataset | None = None
        self.clicks: Clicks | None = None
        self.case: Case | None = None
        self.run: Run | None = None
        self._wanted: Case | None = None
        self.closed = False
        self._closing = Closing(self)
        guarded(self.runner.start)()

    @staticmethod
    def of(viewer: Viewer) -> Session:
        """The session of a viewer, which is made where there is none."""
        viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin is handed a proxy without the window
        found = viewer.window._qt_window.findChild(Session)
        return cast("Session", found) if found is not None else Session(viewer)

    @property
    def viewer(self) -> Viewer:
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("the viewer is gone")
        return viewer

    @property
    def image(self) -> Image | None:
        """The layer of the case shown; None where there is none, or the user deleted it."""
        return self.canvas.get("image")

    @property
    def folder(self) -> Path | None:
        return None if self.dataset is None else self.dataset.folder

    @property
    def training(self) -> bool:
        """Whether a training or a pretraining runs or waits."""
        return any(isinstance(task.job, Training) for task in self.runner.tasks)

    def open(self, folder: Path) -> None:
        """Read a dataset folder, and show its first case that is not clicked; what cannot be read is said."""
        folder = folder.absolute()
        words = f"Reading {folder.name} …"
        self.reader.run(lambda: read_dataset(folder, unreadable="skip"), self._take, words=words)

    def reload(self) -> None:
        """Read the open folder anew, as a mask was added; the case shown stays."""
        if self.dataset is not None:
            folder = self.dataset.folder
            self.reader.run(lambda: read_dataset(folder, unreadable="skip"), self._renew)

    def show(self, case: Case) -> None:
        """Put a case on the canvas: at once where it was read ahead, else as soon as it is read."""
        self._wanted = case
        self.images.get(case, lambda data: self._show(case, data), self._cannot_show)
        self.images.expect(self._neighbours(case))

    def step(self, by: int) -> None:
        """The case so many places further in the list, round its end."""
        case = self._wanted
        if self.dataset is not None and case is not None:
            cases = self.dataset.cases
            self.show(cases[(self.place(case) + by) % len(cases)])

    def place(self, case: Case) -> int:
        """In the list of cases; 0 where there is no such case."""
        cases = self.dataset.cases if self.dataset is not None else ()
        return next((index for index, each in enumerate(cases) if each.name == case.name), 0)

    def show_run(self, path: Path | None) -> None:
        """Look at a run of the open folder."""
        runs = runs_of(self.dataset.folder) if self.dataset is not None else []
        self.run = next((run for run in runs if run.path == path), None)
        self.run_shown.emit(self.run)

    def close(self) -> None:
        """Save what waits to be saved, end the worker and all threads. Called when the window closes."""
        if self.closed:
            return
        self.closed = True
        for end in (self.painter.close, self.activity.close, self.runner.close, partial(self.reader.close, drop=True)):
            guarded(end)()  # one that fails keeps no other from its end

    @guarded
    def _trained(self, task: Task) -> None:
        """There may be something new, even of a training that failed; a run is what one wants to look at then."""
        job = task.job
        if isinstance(job, Training):
            self.runs_changed.emit()
            if isinstance(job, Anchored) and job.data == self.folder and not isinstance(job, Study) and is_run(job.out):
                self.show_run(job.out)

    def _take(self, dataset: Dataset) -> None:
        if not writable(dataset.folder):
            self.project_wanted.emit(dataset.folder)
            return
        self.clicks = Clicks(dataset)
        self.painter.leave()
        self.canvas.clear()
        self.images.forget()
        self.dataset, self.case, self.run = dataset, None, None
        self.opened.emit()
        self.clicks_changed.emit()
        self.runs_changed.emit()
        first = next((case for case in dataset if self.clicks[case] is None), dataset.cases[0])
        self.show(first)
        if dataset.left_out:
            complain(_left_out(dataset))

    def _renew(self, dataset: Dataset) -> None:
        if self.dataset is None or self.dataset.folder != dataset.folder:
            return
        self.dataset = dataset
        names = {case.name: case for case in dataset}
        if self.case is not None:
            self.case = names.get(self.case.name, self.case)
        self.masks_changed.emit()

    def _show(self, case: Case, data: LayerData) -> None:
        if case is not self._wanted or self.dataset is None:  # the user has gone on meanwhile
            return
        self.painter.leave()
        self.case = case
        before = self.image
        sides = None if before is None else (before.extent.world.tolist(), before.ndim)
        layer = self.canvas.put("image", data)
        if sides != (layer.extent.world.tolist(), layer.ndim):
            self.viewer.reset_view()
        if len(case.geometry.shape) == 3:
            self.show_plane(self._plane_of(case))
        self.case_shown.emit(case)

    def show_plane(self, plane: int) -> None:
        """Go to a plane of the volume shown."""
        layer = self.image
        if layer is not None and layer.ndim == 3:
            axis = self.viewer.dims.ndim - 3
            self.viewer.dims.set_point(axis, float(layer.data_to_world((plane, 0, 0))[0]))

    def plane(self) -> int:
        """The plane of the volume shown that is seen; 0 of a photograph."""
        layer = self.image
        if layer is None or layer.ndim != 3:
            return 0
        place = layer.world_to_data(self.viewer.dims.point)[0]
        return int(min(max(round(place), 0), layer.data.shape[0] - 1))

    def _plane_of(self, case: Case) -> int:
        point = self.clicks[case] if self.clicks is not None else None
        return case.geometry.point_to_planes(point)[0] if point else case.geometry.plane_shape[0] // 2

    def _cannot_show(self, error: Exception) -> None:
        complain(explained(error))

    def _neighbours(self, case: Case) -> list[Case]:
        """Those that the user may want next: in the order of the list, and the next without a click."""
        if self.dataset is None or self.clicks is None:
            return []
        cases, place = self.dataset.cases, self.place(case)
        near = [cases[(place + step) % len(cases)] for step in (*range(1, AHEAD), -1)]
        unclicked = self.clicks.next_unclicked(case)
        found = {each.name: each for each in (*near, *([unclicked] if unclicked else []))}
        return [each for name, each in found.items() if name != case.name]


def _left_out(dataset: Dataset) -> str:
    """Which images are not among the cases, and the way out."""
    first, *others = dataset.left_out.values()
    return first + (f"; {len(others)} more are left out too, see 'What was assumed'" if others else "")
