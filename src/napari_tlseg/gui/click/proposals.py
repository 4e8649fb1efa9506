"""Centres that a localizer proposes: asked for, of all images at once, or while someone clicks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_tlseg.data.case import Case
from napari_tlseg.data.guesses import Guess, read_guesses
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.engine.messages import Failed
from napari_tlseg.events import Finished
from napari_tlseg.gui.click.assistant import Assistant
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.runs import SOURCES, sources_of

if TYPE_CHECKING:
    from napari_tlseg.gui.session import Session


class Proposals(QObject):
    """Those that were asked for go before those of the assistant, whose localizer learned for seconds."""

    changed = Signal()
    """Of the case shown, or whether they can be asked for."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._asked: dict[str, Guess] = {}
        self.localizer: Path | None = None
        """What proposals can be asked of."""
        self._tried: Path | None = None
        """The one that was asked unbidden."""
        self.assistant = Assistant(session)
        self.assistant.proposed.connect(self.changed)
        session.opened.connect(guarded(self._open))
        session.runs_changed.connect(guarded(self._look_for_localizer))

    def guess(self, case: Case) -> Guess | None:
        return self._asked.get(case.name) or self.assistant.guess(case)

    def appear(self, in_sight: bool) -> None:
        """A dock for clicks came into sight, or the last one left it: what was pretrained meanwhile is asked."""
        self.assistant.appear(in_sight)
        if in_sight and self._news:
            self._tried = self.localizer  # once, also where that fails
            self.ask()

    @property
    def _news(self) -> bool:
        """Whether a localizer may know the centres of photographs that nobody looked at, and was not asked yet."""
        clicks, dataset, localizer = self._session.clicks, self._session.dataset, self.localizer
        if clicks is None or dataset is None or localizer is None or localizer == self._tried:
            return False
        helps = self.assistant.wanted and self.assistant.possible and self._session.runner.free
        return helps and len(clicks) < len(dataset) and not _is_newer(_table(dataset.folder), localizer)

    def ask(self) -> None:
        """Let the localizer guess the centres of all cases."""
        dataset, model = self._session.dataset, self.localizer
        if dataset is not None and model is not None:
            job = Locate(data=dataset.folder, model=model, out=_table(dataset.folder), overwrite=True)
            self._session.runner.submit(job, ended=guarded(self._take))

    def _open(self) -> None:
        self._asked = {}
        self._look_for_localizer()
        self._read()

    def _look_for_localizer(self) -> None:
        folder = self._session.folder
        self.localizer = next(iter(sources_of(folder)), None) if folder is not None else None
        self.changed.emit()

    def _take(self, result: Finished | Failed) -> None:
        if isinstance(result, Finished):
            self._read()
            self.changed.emit()

    @guarded
    def _read(self) -> None:
        dataset = self._session.dataset
        if dataset is not None:
            self._asked = read_guesses(_table(dataset.folder), dataset.cases, dataset.left_out)


def _table(folder: Path) -> Path:
    return folder / SOURCES / "centres.csv"


def _is_newer(table: Path, localizer: Path) -> bool:
    return table.exists() and table.stat().st_mtime >= localizer.stat().st_mtime
