"""What runs find in a case: the masks that they keep, or else those that the worker is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.annotations import mask_path, read_mask
from napari_tlseg.data.case import Case, Labels
from napari_tlseg.data.crops import Crop, read_crop
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.messages import Failed
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.gui.notices import complain, explained, guarded
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import Run

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A case as one run or two see it; all labels are (N, Y, X)."""

    case: Case
    classes: tuple[str, ...]
    """With the background first."""
    runs: tuple[Run, ...]
    masks: tuple[Labels, ...]
    """Of each run."""
    truth: Labels | None
    """None where there is none, or it is not to be looked at."""
    crop: Crop | None = None
    """What the first run looked at; None for the whole image."""


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    case: Case
    classes: tuple[str, ...]
    runs: tuple[Run, ...]
    judge: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """The mask of each run, in its folder."""
        return tuple(mask_path(self.case, run.masks) for run in self.runs)


class Predictions(QObject):
    """One case at a time: what was asked for before is no longer wanted, and not given any more."""

    found = Signal(object)
    """Found."""
    waits = Signal(str)
    """What it waits for, in a sentence; empty where it failed, which the user is told."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._wanted: _Wanted | None = None
        self._asked = 0
        """Counts the questions: the answer to an earlier one is stale."""
        self._tasks: dict[Path, Task] = {}
        """By the mask that it is to write."""

    def ask(self, case: Case, classes: tuple[str, ...], runs: tuple[Run, ...], *, judge: bool) -> None:
        """`found` or `waits` follow. judge: compare with the mask of the case, where it has one."""
        self._wanted = _Wanted(case=case, classes=classes, runs=runs, judge=judge)
        self._asked += 1
        missing = {file: run for run, file in zip(runs, self._wanted.files, strict=True) if not file.exists()}
        self._drop(file for file in self._tasks if file not in missing)
        for file, run in missing.items():
            if file not in self._tasks:
                self._tasks[file] = self._predict(run, case)
        if missing:
            busy = self._session.training
            self.waits.emit(
                f"A training runs: {case.name} is predicted after it." if busy else f"Predicting {case.name} …"
            )
        else:
            self._read(self._wanted)

    def forget(self) -> None:
        """Nothing is wanted; what the worker is at goes on."""
        self._wanted = None
        self._asked += 1

    def _predict(self, run: Run, case: Case) -> Task:
        folder = self._session.folder
        if folder is None:
            raise InputError("no folder is open", remedy="open one in the dock Click targets")
        if not run.path.exists():
            raise InputError("the run is no longer there", run.path, "pick another one")
        job = Predict(data=(folder,), cases=(case.name,), model=run.path, out=run.masks)
        return self._session.runner.submit(job, ended=self._predicted, quietly=True)

    def _drop(self, files: Iterable[Path]) -> None:
        """What nobody waits for is not to keep the worker busy."""
        for file in list(files):
            self._tasks.pop(file).stop()

    @guarded
    def _predicted(self, result: Finished | Failed) -> None:
        """One of the masks may be there now; also where another program wrote it meanwhile."""
        ended = [file for file, task in self._tasks.items() if not task.running]
        for file in ended:
            del self._tasks[file]
        wanted = self._wanted
        if wanted is None or not set(ended) & set(wanted.files):
            return
        if all(file.exists() for file in wanted.files):
            self._asked += 1
            self._read(wanted)
        elif not any(file.exists() for file in ended):
            self.waits.emit("")
            if isinstance(result, Failed):
                complain(result.sentence)

    def _read(self, wanted: _Wanted) -> None:
        self._session.reader.run(
            partial(_read, wanted), partial(self._give, self._asked), partial(self._fail, self._asked)
        )

    def _give(self, asked: int, found: Found) -> None:
        if asked == self._asked:
            self.found.emit(found)

    def _fail(self, asked: int, error: Exception) -> None:
        if asked == self._asked:
            self.waits.emit("")
            complain(explained(error))


def _read(wanted: _Wanted) -> Found:
    """In the reading thread."""
    case, classes = wanted.case, len(wanted.classes)
    truth = read_mask(case, classes) if wanted.judge and case.mask is not None else None
    masks = tuple(_prediction(case, classes, file) for file in wanted.files)
    crop = read_crop(wanted.runs[0].masks, case)
    return Found(case=case, classes=wanted.classes, runs=wanted.runs, masks=masks, truth=truth, crop=crop)


def _prediction(case: Case, classes: int, file: Path) -> Labels:
    try:
        return read_mask(case, classes, file)
    except InputError as error:
        raise InputError(error.reason, file, "delete it, then it is predicted anew") from None
