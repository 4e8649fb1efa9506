"""The first dock: open images, click the centre of the target in each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_tlseg.data.guesses import Guess
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.gui.click.case_list import CaseList
from napari_tlseg.gui.click.clicking import ACTIONS, Clicking
from napari_tlseg.gui.click.help_box import HelpBox
from napari_tlseg.gui.click.opening import open_folder, use_layers
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.progress import Progress
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.widgets.fold import Fold

if TYPE_CHECKING:
    import napari

BEGIN = "Open images to begin: a folder of photographs or CTs, or what is open in napari already."
GUIDE = "Click the centre of the target: one per image."
DONE = "All images are looked at: go on to Train. A click moves the centre."


class ClickDock(QWidget):
    """Click targets."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = Session.of(napari_viewer)
        self.clicking = Clicking.of(self.session)
        self._title = QElidingLabel()
        self._notes = QLabel(wordWrap=True)
        self._assumed = Fold("What was assumed", self._notes)
        self._count = QLabel(BEGIN, objectName="count", wordWrap=True)
        self._bar = QProgressBar(textVisible=False)
        self._state = QLabel(objectName="state", wordWrap=True)
        self._waits = ""
        """What is being read, where that takes more than a moment."""
        self._again = QPushButton("Click here again", objectName="again")
        self._again.setToolTip("Let clicks on the canvas set the target's centre again")
        self._list = CaseList(self.clicking)
        self._buttons = {action.text: QPushButton(action.text) for action in ACTIONS}
        self._propose = QPushButton("Propose centres")
        self._progress = Progress()
        self._advance = QCheckBox("After a click, go on to the next unclicked case", checked=True)
        self._help = HelpBox(self.clicking.proposals.assistant)
        self._lay_out()
        self._connect()
        self._fill()
        self._tell()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addLayout(self._opening())
        for widget in (self._title, self._assumed, self._count, self._bar):
            layout.addWidget(widget)
        row = QHBoxLayout()
        row.addWidget(self._state, 1)
        row.addWidget(self._again)
        layout.addLayout(row)
        layout.addWidget(self._list, 1)
        layout.addLayout(self._grid())
        for widget in (self._progress, self._advance, self._help, Fold("Keys", QLabel(_help(), wordWrap=True))):
            layout.addWidget(widget)
        self._title.setElideMode(Qt.TextElideMode.ElideMiddle)
        self._bar.setMaximumHeight(self.fontMetrics().height() // 2)

    def _opening(self) -> QHBoxLayout:
        row = QHBoxLayout()
        folder = QPushButton("Open folder …", toolTip="A folder of images, or a dataset folder with images/ in it")
        layers = QPushButton("Use open layers …", toolTip="Take the images that are open in napari as cases")
        for button, slot in ((folder, open_folder), (layers, use_layers)):
            button.clicked.connect(guarded(lambda _=False, slot=slot: slot(self.session)))
            row.addWidget(button)
        return row

    def _grid(self) -> QGridLayout:
        """Two columns; proposals come last."""
        grid = QGridLayout()
        *_, accept = self._buttons.values()
        for place, action in enumerate(ACTIONS):
            button = self._buttons[action.text]
            button.setToolTip(f"{action.tip} ({action.shortcut})")
            button.clicked.connect(guarded(lambda _=False, act=action.act: self._do(act)))
            if button is not accept:
                grid.addWidget(button, *divmod(place, 2))
        grid.addWidget(self._propose, grid.rowCount(), 0)
        grid.addWidget(accept, grid.rowCount() - 1, 1)
        return grid

    def _connect(self) -> None:
        session, clicking = self.session, self.clicking
        session.opened.connect(self._fill)
        session.clicks_changed.connect(self._mark)
        session.masks_changed.connect(self._mark)
        session.images.failed.connect(self._mark)
        session.reader.waiting.connect(self._wait)
        session.runner.started.connect(self._follow)
        clicking.changed.connect(self._tell)
        self._advance.toggled.connect(partial(setattr, clicking, "advance"))
        self._again.clicked.connect(guarded(lambda _=False: clicking.again()))
        self._propose.clicked.connect(guarded(lambda _=False: clicking.proposals.ask()))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not event.spontaneous():
            guarded(self.clicking.appear)(self)

    def hideEvent(self, event: QHideEvent) -> None:
        """Another tab came forward, or the dock was closed; not that the window became an icon."""
        super().hideEvent(event)
        if not event.spontaneous():
            guarded(self.clicking.vanish)(self)

    def _do(self, act: Callable[[Clicking], None]) -> None:
        act(self.clicking)
        self.clicking.centres.focus()

    def _follow(self, task: Task) -> None:
        if isinstance(task.job, Locate):
            self._progress.follow(task)
            task.ended.connect(self._tell)
            self._tell()

    def _fill(self) -> None:
        """Another folder."""
        dataset = self.session.dataset
        for widget in (self._list, *self._buttons.values(), self._propose, self._advance):
            widget.setEnabled(dataset is not None)
        self._title.setVisible(dataset is not None)
        self._bar.setVisible(dataset is not None)
        self._assumed.setVisible(dataset is not None and bool(dataset.notes))
        self._advance.setChecked(self.clicking.advance)
        if dataset is None:
            return
        self._title.setText(str(dataset.folder))
        self._title.setToolTip(str(dataset.folder))
        self._notes.setText("\n".join(dataset.notes))
        self._list.fill(dataset)
        self._mark()

    def _mark(self, _: object = None) -> None:
        """The signs in the list, and the count."""
        dataset, clicks = self.session.dataset, self.session.clicks
        if dataset is None or clicks is None or self._list.count() != len(dataset):
            return
        self._list.mark(dataset)
        pace = f" · {clicks.pace:.0f} per minute" if clicks.pace else ""
        self._count.setText(f"{len(clicks)} of {len(dataset)} looked at{pace} · saved")
        self._bar.setUpdatesEnabled(False)  # or each of these draws it at once, before the next image is shown
        self._bar.setMaximum(len(dataset))
        self._bar.setValue(len(clicks))
        self._bar.setUpdatesEnabled(True)

    def _wait(self, words: str) -> None:
        self._waits = words
        self._tell()

    def _tell(self, _: object = None) -> None:
        """Which case is shown, what a click would do now, and what else can be done."""
        dataset, case, clicking = self.session.dataset, self.session.case, self.clicking
        shown = dataset is not None and case is not None
        self._again.setVisible(shown and not clicking.centres.active)
        self._state.setVisible(shown or bool(self._waits))
        self._state.setText(self._waits or (self._guide() if shown else ""))
        if dataset is None or case is None:
            return
        self._list.show_case(dataset[case.name])
        self._enable()

    def _guide(self) -> str:
        painted = self.session.painter.case
        if painted is not None:
            return f"The mask of {painted.name} is being painted."
        if not self.clicking.centres.active:
            return "Clicks on the image do not count now."
        if (guess := self.clicking.proposal) is not None:
            return _proposed(guess)
        dataset, clicks = self.session.dataset, self.session.clicks
        return DONE if dataset is not None and clicks is not None and len(clicks) == len(dataset) else GUIDE

    def _enable(self) -> None:
        clicks, clicking = self.session.clicks, self.clicking
        *_, undo, redo, accept = self._buttons.values()
        undo.setEnabled(clicks is not None and clicks.can_undo)
        redo.setEnabled(clicks is not None and clicks.can_redo)
        accept.setEnabled(clicking.proposal is not None)
        localizer = clicking.proposals.localizer
        self._propose.setEnabled(localizer is not None and self._progress.task is None)
        self._propose.setToolTip(
            "Let the localizer that was trained on your clicks guess the centres of the others"
            if localizer is not None
            else "First let the network learn from your clicks: Train, then Pretrain"
        )


def _proposed(guess: Guess) -> str:
    """What a proposed centre is worth.

    >>> _proposed(Guess(point=(10.0, 20.0), doubt=140.2, unsure=True))
    'Unsure: look here first. The target may lie 140 px from the proposed centre: click it, or accept by Enter.'
    """
    if guess.unsure:
        far = f"{guess.doubt:.0f} px from" if guess.doubt is not None else "away from"
        return f"Unsure: look here first. The target may lie {far} the proposed centre: click it, or accept by Enter."
    within = f", give or take {guess.doubt:.0f} px" if guess.doubt is not None else ""
    return f"{GUIDE} Enter accepts the proposed centre{within}."


def _help() -> str:
    """The keys."""
    rows = "".join(f"<tr><td><b>{action.shortcut}</b>&nbsp;&nbsp;</td><td>{action.tip}</td></tr>" for action in ACTIONS)
    mouse = "Drag a centre to move it. A drag elsewhere moves the view, the wheel zooms."
    return f"<table>{rows}</table><p>{mouse}</p>"
