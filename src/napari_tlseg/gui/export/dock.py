"""The fourth dock: the masks of a run as files, each read back before it is called done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Layer
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.messages import Failed
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.gui.canvas.layers import labels_layer
from napari_tlseg.gui.export.choices import CaseChoice, FormatChoice
from napari_tlseg.gui.export.exported import Export, Result, counted
from napari_tlseg.gui.export.model_file import SaveModel
from napari_tlseg.gui.export.run_choice import RunChoice
from napari_tlseg.gui.notices import complain, guarded
from napari_tlseg.gui.progress import Progress
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import runs_of
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.widgets.fold import Fold
from napari_tlseg.gui.widgets.folder_field import FolderField
from napari_tlseg.gui.widgets.form import Form
from napari_tlseg.learn.postprocess import Postprocess

if TYPE_CHECKING:
    import napari

CLEANING = {
    "largest_only": "Only the largest piece",
    "fill_holes": "Fill holes",
    "opening": "Opening, radius",
    "closing": "Closing, radius",
    "smallest": "Smallest piece kept",
    "keep_outside": "Keep also outside the ROI",
}
"""The fields of `Postprocess` that are shown, and what they are called."""
HERE = {
    ", or add --device cpu": "",
    "add --overwrite": "tick 'Replace masks that are there'",
    "another --out": "another folder",
    "--format nifti or tiff": "NIfTI or TIFF",
}
"""What the sentences of the job call otherwise, as they are read on a command line too."""
CLEANING_HELP = (
    "Unless changed here, masks are cleaned as they were when the run was scored. "
    "Lengths are in mm where an image knows its spacing, else in pixels."
)
NO_FOLDER = "Open a folder of images first, in 'Click targets'."
NO_RUN = "There is no trained model in this folder yet: train one in 'Train', then export its masks here."
EXPORTS = "exports"
"""The folder beside images/ where masks go by default, one folder for each run."""
ANY = 256
"""Classes: a mask holds what its model knows, whatever the folder says now."""


class ExportDock(QWidget):
    """Export masks."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = Session.of(napari_viewer)
        self._task: Task | None = None
        self._next = QLabel(wordWrap=True, objectName="next")
        self._body = QWidget()
        self.run_choice = RunChoice()
        self._which = CaseChoice()
        self._format = FormatChoice()
        self._folder = FolderField()
        self._replace = QCheckBox("Replace masks that are there", objectName="replace")
        self._replace.setToolTip("Write over masks of the same names in this folder, also over those of another run")
        self._cleaning = Form(Postprocess, CLEANING, labels=CLEANING)
        self._hint = QLabel(wordWrap=True, objectName="hint")
        self._export = QPushButton(objectName="export")
        self._progress = Progress()
        self._result = Result()
        self._save = SaveModel(self.session.reader)
        self._lay_out()
        self._connect()
        self._open()

    def _lay_out(self) -> None:
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        named = ("Run", self.run_choice), ("Cases", self._which), ("Format", self._format), ("Folder", self._folder)
        for name, widget in (*named, ("", self._replace)):
            rows.addRow(name, widget)
        cleaning = QWidget()
        QVBoxLayout(cleaning).addWidget(QLabel(CLEANING_HELP, wordWrap=True))
        cleaning.layout().addWidget(self._cleaning)
        body = QVBoxLayout(self._body)
        body.setContentsMargins(0, 0, 0, 0)
        body.addLayout(rows)
        for widget in (Fold("Post-processing", cleaning), self._hint, self._export, self._progress, self._result):
            body.addWidget(widget)
        body.addSpacing(self.fontMetrics().height())
        body.addWidget(self._save)
        layout = QVBoxLayout(self)
        layout.addWidget(self._next)
        layout.addWidget(self._body)
        layout.addStretch(1)

    def _connect(self) -> None:
        session, runner = self.session, self.session.runner
        session.opened.connect(self._open)
        session.runs_changed.connect(self._list_runs)
        self.run_choice.currentIndexChanged.connect(self._offer_folder)
        choices = self._which.currentIndexChanged, self._format.currentIndexChanged, self._cleaning.valueChanged
        elsewhere = session.masks_changed, session.case_shown, runner.started, runner.ended
        for changed in (*choices, self._folder.valueChanged, *elsewhere):
            changed.connect(self._refresh)
        self._export.clicked.connect(self.export)
        self._result.layer_wanted.connect(self._show_mask)

    @property
    def cases(self) -> tuple[Case, ...]:
        """Those that are chosen."""
        return self._which.cases()

    @property
    def _busy(self) -> bool:
        return self._task is not None and self._task.running

    @guarded
    def export(self) -> None:
        """Have the masks written, as the dock says."""
        run, dataset, cases = self.run_choice.value(), self.session.dataset, self.cases
        if run is None or dataset is None or self._busy:
            return
        if obstacle := self._obstacle():
            raise InputError(obstacle)
        job = Predict(
            data=(dataset.folder.absolute(),),
            model=run.path.absolute(),
            out=self._folder.value(),
            cases=tuple(case.name for case in cases),
            format=self._format.currentData(),
            clean=Postprocess(**self._cleaning.value()),
            overwrite=self._replace.isChecked(),
        )
        self._result.begin(Export(run=run.name, folder=job.out, cases=cases))
        task = self._task = self.session.runner.submit(job, heard=self._result.hear, ended=self._end, quietly=True)
        if task.running:
            self._progress.follow(task)
        self._refresh()

    def _end(self, result: Finished | Failed) -> None:
        """A failure is said here, as the remedies of the job are for a command line too."""
        self._result.end(result)
        self._refresh()
        if isinstance(result, Failed):
            complain(_as_called_here(result.sentence))

    @guarded
    def _open(self) -> None:
        """Another folder: what was chosen in the one before means nothing in it."""
        self.run_choice.clear()
        self._folder.base = self.session.folder
        self._folder.setValue("")
        if not self._busy:
            self._result.clear()
        self._list_runs()

    @guarded
    def _list_runs(self) -> None:
        folder = self.session.folder
        self.run_choice.setRuns(runs_of(folder) if folder is not None else [])
        self._offer_folder()

    @guarded
    def _offer_folder(self) -> None:
        run, folder = self.run_choice.value(), self.session.folder
        self._save.run = run
        if run is not None and folder is not None:
            self._folder.offer(folder / EXPORTS / run.name)
        self._refresh()

    @guarded
    def _refresh(self) -> None:
        """What there is to choose from, and what stands in the way."""
        ready = self.run_choice.value() is not None
        self._next.setText(NO_RUN if self.session.folder else NO_FOLDER)
        self._next.setVisible(not ready)
        self._body.setVisible(ready)
        if not ready:
            return
        shown = self.session.case
        self._which.setCases(self.session.dataset or (), shown)
        self._format.suit(self.cases)
        obstacle = self._obstacle()
        waits = "A training runs; the masks are written after it." if self.session.training else ""
        self._hint.setText(obstacle or waits)
        self._hint.setVisible(bool(obstacle or waits))
        self._export.setText(f"Export {counted(len(self.cases))}")
        self._export.setEnabled(not (self._busy or obstacle))
        self._result.look_at(shown)

    def _obstacle(self) -> str:
        """Why nothing can be exported as it stands; empty where it can."""
        if not self.cases:
            return "No case is shown." if self._which.currentData() == "shown" else "Every case has a mask."
        if not self._folder.text():
            return "Name a folder for the masks."
        return next(iter(self._cleaning.problems().values()), "")

    @guarded
    def _show_mask(self, case: Case, path: Path, name: str) -> None:
        """The mask of the case shown as a layer of the user's, who may do with it what they like."""
        image, viewer = self.session.image, self.session.viewer
        if image is None:
            raise InputError(f"the image of {case.name} is not in the viewer", remedy="show the case again")
        like = image.as_layer_data_tuple()
        self.session.reader.run(
            lambda: read_mask(case, ANY, path),
            lambda planes: viewer.add_layer(Layer.create(*labels_layer(planes, like, name))),
        )


def _as_called_here(sentence: str) -> str:
    for flag, words in HERE.items():
        sentence = sentence.replace(flag, words)
    return sentence
