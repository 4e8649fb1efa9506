"""Where training starts from: nothing, the user's clicks, ImageNet, an earlier run, a file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tlseg.data.card import Card
from napari_tlseg.data.recipes import RECIPES
from napari_tlseg.engine.messages import Failed, Greeting
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.gui.notices import guarded
from napari_tlseg.gui.runs import SOURCES, card_of, free_name, runs_of, sources_of
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.cost import Cost
from napari_tlseg.gui.widgets.fields import CalmWheel, as_tooltip
from napari_tlseg.gui.widgets.fold import Fold
from napari_tlseg.gui.widgets.form import Form, field_help
from napari_tlseg.gui.widgets.narrow import NarrowChoice
from napari_tlseg.gui.words import LABELS, in_words
from napari_tlseg.options import Origin

Source = Origin | Path
FEW_CLICKS = 5
"""With fewer a localizer learns next to nothing, and there is no validation."""
LEAST = 2
"""Clicks: with fewer there is nothing to compare within a step."""
FILES = "Models and weights (*.safetensors *.pth *.pt *.bin)"
CHOOSE = "choose"
SETTINGS = (
    "head",
    "encoder",
    "steps",
    "size",
    "recipe",
    "batch",
    "learning_rate",
    "held_out",
    "patience",
    "device",
    "seed",
)
CALLED = LABELS | {"labels": "Clicks used"}


class SourceBox(QWidget):
    """The source picker, and the pretraining that makes one of the clicks."""

    valueChanged = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._source: Source = "none"
        self._praised: Path | None = None
        """The source whose pretraining has just ended, of which it is said how well it went."""
        self._chosen: list[Path] = []
        """Files that the user named."""
        self._combo = NarrowChoice("source", field_help(Finetune)["source"])
        self._combo.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._combo.installEventFilter(CalmWheel(self._combo))
        self._button = QPushButton("Pretrain on my clicks", objectName="pretrain")
        self._button.setToolTip(as_tooltip(str(Pretrain.__doc__)))
        choices = {"encoder": ["unet"], "recipe": ("auto", *RECIPES), "device": ["auto", "cpu"]}
        self.form = Form(Pretrain, SETTINGS, choices, CALLED)
        self.form.setValue({"head": "heatmap"})  # which finds centres far more exactly, and says where it is unsure
        self.settings = Fold("Pretraining settings", self.form)
        self._card = QLabel(wordWrap=True, objectName="card")
        """What the picked source learned from, and how good it was."""
        self._said = QLabel(wordWrap=True, objectName="pretrained")
        self.cost = Cost(session, self.job, "clicks")
        self.cost.clear()  # that PyTorch is being loaded, Train says
        self._lay_out()
        self._connect()
        self._greet(session.runner.greeting)
        self._open()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(QLabel("Start from"))
        row.addWidget(self._combo, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        for widget in (self._card, self._button, self._said, self.cost, self.settings):
            layout.addWidget(widget)

    def _connect(self) -> None:
        session, runner = self.session, self.session.runner
        self._combo.activated.connect(guarded(self._pick))
        self._button.clicked.connect(guarded(self.pretrain))
        session.opened.connect(self._open)
        session.runs_changed.connect(self._offer)
        runner.greeted.connect(self._greet)
        for signal in (session.clicks_changed, runner.started, runner.ended):
            signal.connect(self._count)
        for signal in (session.opened, session.clicks_changed, self.form.valueChanged):
            signal.connect(self.cost.change)

    def value(self) -> Source:
        return self._source

    def setValue(self, source: Source) -> None:
        """A file that is not offered yet is, from now on."""
        if isinstance(source, Path) and self._combo.findData(str(source)) < 0:
            self._chosen.append(source)
        changed, self._source = source != self._source, source
        self._offer()
        if changed:
            self.valueChanged.emit()

    def job(self) -> Pretrain:
        """What *Pretrain* would run; InputError where it cannot be."""
        dataset = self.session.dataset
        if dataset is None:
            raise InputError("no folder is open", remedy="open one in the dock Click targets")
        for problem in self.form.problems().values():
            raise InputError(problem)
        out = free_name(dataset.folder / SOURCES, "clicks", ".safetensors")
        return Pretrain(data=(dataset.folder,), out=out, **self.form.value())

    def pretrain(self) -> None:
        """Let the worker learn from the clicks; the result becomes the source."""
        job = self.job()
        self._say("")
        self.session.runner.submit(job, ended=self._pretrained)

    def _say(self, text: str) -> None:
        """In place of what it would cost."""
        self._said.setText(text)
        self._said.setVisible(bool(text))
        self.cost.setVisible(not text)
        self._praised = None

    def _pretrained(self, result: Finished | Failed) -> None:
        if isinstance(result, Failed):
            self._say(in_words(result.sentence))
        elif result.out is None:
            self._say("Stopped before there was anything to keep.")
        else:
            self._say(_verdict(result) + ("" if self._has_masks else " Now paint a mask or two, below."))
            self._praised = result.out
            if self.session.folder == result.out.parent.parent:  # else another folder was opened meanwhile
                self.setValue(result.out)

    @property
    def _has_masks(self) -> bool:
        dataset = self.session.dataset
        return dataset is not None and bool(dataset.labelled)

    def _open(self) -> None:
        """Another folder: what was learned from its clicks last is the nearest source there is."""
        folder = self.session.folder
        learned = sources_of(folder) if folder is not None else []
        self._say("")
        self._offer()
        if learned:
            self.setValue(learned[0])
        self._count()

    def _offer(self) -> None:
        """List what there is; what was picked stays picked, as long as it is there."""
        folder = self.session.folder
        offers: list[tuple[str, Source | str]] = [("nothing: train from scratch", "none")]
        if folder is not None:
            offers += [(f"{_learned(path)}: {path.stem}", path) for path in sources_of(folder)]
            offers += [(f"run: {run.name}", run.path) for run in runs_of(folder)]
        offers += [(f"file: {path.name}", path) for path in self._chosen if path.exists()]
        offers += [(f"{name} weights (downloaded once)", name.lower()) for name in ("ImageNet", "MedicalNet")]
        offers += [("a file …", CHOOSE)]
        with QSignalBlocker(self._combo):
            self._combo.clear()
            for place, (text, source) in enumerate(offers):
                self._combo.addItem(text, str(source))  # Qt would compare paths by identity
                self._combo.setItemData(place, _about(card_of(source)), Qt.ItemDataRole.ToolTipRole)
            self._combo.setCurrentIndex(self._combo.findData(str(self._source)))
        self._show_card()
        if self._combo.currentIndex() < 0:
            self.setValue("none")

    def _show_card(self) -> None:
        card = card_of(self._source)
        self._card.setText(card.short if card else "")
        self._card.setToolTip(_about(card))
        self._card.setVisible(card is not None and self._source != self._praised)

    def _pick(self, index: int) -> None:
        picked = str(self._combo.itemData(index))
        if picked == CHOOSE:
            picked, _ = QFileDialog.getOpenFileName(self, "A source, a model, or a file of weights", "", FILES)
        match picked:
            case "none" | "imagenet" | "medicalnet":
                self.setValue(picked)
            case "":  # no file was chosen
                self._offer()
            case _:
                self.setValue(Path(picked))

    def _greet(self, greeting: Greeting | None) -> None:
        if greeting is not None:
            self.form.set_choices("encoder", greeting.encoders)
            self.form.set_choices("device", devices(greeting))

    def _count(self, *_: object) -> None:
        """Whether there are clicks enough, and nothing else is being trained."""
        clicks = self.session.clicks
        count = 0 if clicks is None else sum(1 for _ in clicks)
        self._button.setText(f"Pretrain on my {count} clicks" if count else "Pretrain on my clicks")
        can = count >= LEAST and not self.session.training
        self._button.setEnabled(can)
        few = f"Click at least {FEW_CLICKS} targets, better 20 or more, to pretrain on them."
        if count < FEW_CLICKS:
            self._say(few)
        elif self._said.text() == few:
            self._say("")
        self.cost.setVisible(can and not self._said.text())


def devices(greeting: Greeting) -> dict[str, str]:
    """What a job can run on, and how a person calls it."""
    return {"auto": "auto", **{each.name: each.label for each in greeting.devices}}


def _learned(source: Path) -> str:
    """From what a source in the folder of the clicks learned."""
    card = card_of(source)
    return "my clicks" if card is None or card.learned == "clicks" else card.learned


def _about(card: Card | None) -> str:
    """A source's card as a tooltip."""
    return f"<qt>{'<br>'.join(escape(line, quote=False) for line in card.lines())}</qt>" if card else ""


def _verdict(result: Finished) -> str:
    """How well the localizer finds the centre of targets that it did not learn from."""
    for part, words in (("validation", "validation"), ("held_out", "held-out")):
        scores: dict[str, Any] = result.summary.get(part, {})
        if (error := scores.get("error")) is not None:
            cases = f"{scores['cases']} {words} case{'' if scores['cases'] == 1 else 's'}"
            off = max(1, round(error))
            return f"Pretrained: finds the centre to within {off} pixel{'' if off == 1 else 's'} (median of {cases})."
    return "Pretrained; there were too few clicks to say how well."
