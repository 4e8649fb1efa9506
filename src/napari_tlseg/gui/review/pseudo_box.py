"""Pseudo-labels: asked of a run for the images without a mask, accepted or rejected, and learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.case import Case
from napari_tlseg.data.pseudo import Pseudo, decide, latest, read_pseudo
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.progress import Progress
from napari_tlseg.gui.runner import Task
from napari_tlseg.gui.runs import RUNS, Run, free_name, job_of
from napari_tlseg.gui.session import Session
from napari_tlseg.studies.teaching import Student

WORDS = {None: "pseudo-label", True: "accepted", False: "rejected"}
"""What the cases are called in the table."""
MEANS = {
    None: "Only what the model is sure of will be learned.",
    True: "Accepted: all of it will be learned.",
    False: "Rejected: it will not be learned.",
}
LABEL = "Let this run label the images without a mask. Nothing learns from that before you say so."
LEARN = "Train a student on the masks and on these labels, but for the rejected ones. It labels the images anew."


class PseudoBox(QWidget):
    """Of the run that is looked at; every answer is on the disk at once."""

    changed = Signal()
    """There are other answers."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._label = QPushButton("Label the images without a mask", objectName="label", toolTip=LABEL)
        self._said = QLabel(wordWrap=True, objectName="pseudo")
        self._accept = QPushButton("Accept", objectName="accept", toolTip="All of this label is right (Alt+A)")
        self._reject = QPushButton("Reject", objectName="reject", toolTip="Do not learn from it (Alt+R)")
        self._next = QPushButton("Next", objectName="next_pseudo", toolTip="The next without an answer (Alt+N)")
        self._learn = QPushButton("Learn from these labels", objectName="learn", toolTip=LEARN)
        self._answers = QWidget()
        self.progress = Progress()
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout(self._answers)
        row.setContentsMargins(0, 0, 0, 0)
        for button, key in ((self._accept, "Alt+A"), (self._reject, "Alt+R"), (self._next, "Alt+N")):
            button.setShortcut(key)
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self._label, self._said, self._answers, self._learn, self.progress):
            layout.addWidget(widget)

    def _connect(self) -> None:
        session = self.session
        for signal in (session.run_shown, session.case_shown, session.masks_changed, session.runner.ended):
            signal.connect(self.refresh)
        session.runner.started.connect(self._follow)
        self._label.clicked.connect(guarded(lambda _=False: self._submit(self.first_job())))
        self._learn.clicked.connect(guarded(lambda _=False: self._submit(self.next_job())))
        self._accept.clicked.connect(guarded(lambda _=False: self._answer(True)))
        self._reject.clicked.connect(guarded(lambda _=False: self._answer(False)))
        self._next.clicked.connect(guarded(lambda _=False: self._go_on()))

    @property
    def folder(self) -> Path | None:
        """Where the pseudo-labels of the run lie; None where it has none of this folder's images."""
        run = self.session.run
        return latest(run.path) if run is not None and _is_of_its_own(run) else None

    def answers(self) -> dict[str, str]:
        """Case → what is said of its pseudo-label, for a table."""
        return {case.name: WORDS[known.accepted] for case, known in self._known()}

    def first_job(self) -> Student:
        """What *Label the images* runs: the run is the teacher, and its students will be trained as it was."""
        run, folder = self._shown()
        strength = float(run.summary.get("lambda", 0))
        out = free_name(folder / RUNS, f"{run.name}-student")
        places = {"data": folder, "unlabelled": folder, "teacher": run.path, "out": out}
        return Student.recalled(job_of(run.path), **places, strength=strength, rounds=0, start=None, overwrite=False)

    def next_job(self) -> Student:
        """What *Learn from these labels* runs: the same, and one round more."""
        run, folder = self._shown()
        places = {"data": folder, "unlabelled": folder, "out": run.path}
        return Student.recalled(job_of(run.path), **places, rounds=len(run.summary["rounds"]), overwrite=False)

    @guarded
    def refresh(self, *_: object) -> None:
        """What can be done, and what is known of the case shown."""
        session, run, folder = self.session, self.session.run, self.folder
        cases = session.dataset or ()
        bare, idle = any(case.mask is None for case in cases), not session.training
        possible = run is not None and bool(run.summary) and latest(run.path) is None
        self._label.setVisible(possible and bare and idle)
        self._learn.setVisible(folder is not None and idle)
        known = {case.name: pseudo for case, pseudo in self._known()}
        here = known.get(session.case.name) if session.case is not None else None
        self._answers.setVisible(folder is not None)
        for button in (self._accept, self._reject):
            button.setEnabled(here is not None)
        self._next.setEnabled(any(pseudo.accepted is None for pseudo in known.values()))
        self._said.setText(_sentence(here, known))
        self._said.setVisible(folder is not None)
        self.setVisible(bool(possible and bare) or folder is not None or self.progress.task is not None)

    def _shown(self) -> tuple[Run, Path]:
        assert self.session.run is not None and self.session.folder is not None
        return self.session.run, self.session.folder

    def _known(self) -> list[tuple[Case, Pseudo]]:
        table = {} if self.folder is None else read_pseudo(self.folder)
        return [(case, table[case.key]) for case in self.session.dataset or () if case.key in table]

    def _submit(self, job: Student) -> None:
        for button in (self._label, self._learn):
            button.setVisible(False)
        self.session.painter.settle(lambda: self.session.runner.submit(job))

    def _follow(self, task: Task) -> None:
        if isinstance(task.job, Student):
            self.progress.follow(task)
        self.refresh()

    def _answer(self, accepted: bool) -> None:
        """A second press takes it back; else the next one comes."""
        case, folder = self.session.case, self.folder
        assert case is not None and folder is not None
        same = read_pseudo(folder)[case.key].accepted is accepted
        decide(folder, case.key, None if same else accepted)
        self.refresh()
        self.changed.emit()
        if not same:
            self._go_on()

    def _go_on(self) -> None:
        """To the next case without an answer, round the end."""
        names = [case.name for case in self.session.dataset or ()]
        here = names.index(self.session.case.name) if self.session.case is not None else 0
        open_ = [case for case, known in self._known() if known.accepted is None and names.index(case.name) != here]
        if open_:
            self.session.show(min(open_, key=lambda case: (names.index(case.name) - here) % len(names)))


def _is_of_its_own(run: Run) -> bool:
    """Whether its pseudo-labels are of images of the folder that it was trained in."""
    job = job_of(run.path)
    return job.get("unlabelled") is not None and Path(job["unlabelled"]) == Path(job["data"])


def _sentence(here: Pseudo | None, known: Mapping[str, Pseudo]) -> str:
    counts = {answer: sum(pseudo.accepted is answer for pseudo in known.values()) for answer in WORDS}
    count = f"{counts[True]} accepted, {counts[False]} rejected, {counts[None]} without an answer."
    if here is None:
        return f"Pseudo-labels: {count}"
    return f"A pseudo-label, of confidence {here.confidence:.2f}. {MEANS[here.accepted]}\n{count}"
