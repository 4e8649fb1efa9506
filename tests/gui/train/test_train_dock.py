"""The Train dock, without a worker: what it offers, what it would run, what it says of what it hears."""

from __future__ import annotations

import gc
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_tlseg.engine.jobs import Job, Predict
from napari_tlseg.engine.messages import Device, Failed, Greeting, SetStrength, Stop
from napari_tlseg.engine.trainings import Estimate, Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Evaluated, Event, Finished, Noted, Started, Stepped
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.session import Session
from napari_tlseg.gui.train.dock import TrainDock
from napari_tlseg.gui.train.sentences import verdict
from napari_tlseg.gui.widgets.plot import Plot
from napari_tlseg.gui.widgets.shrinking import Shrinking
from tiny import write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]

GREETING = Greeting(
    devices=(Device(name="cpu", label="CPU, threads: 2"), Device(name="mps", label="GPU of this Mac")),
    no_gpu="PyTorch finds no GPU that it can use",
    encoders=("unet", "densenet121", "resnet18"),
    versions={},
)
COST = {"seconds": 95.0, "training": 5, "validation": 1, "held_out": 2, "size": 64, "encoder": "unet", "batch": 8}
SUMMARY = {
    "lambda": 0.001,
    "drift": 0.0042,
    "source": "clicks",
    "reason": "done",
    "validation": {"dice_mean": 0.91, "dice_sd": 0.03, "cases": list("abcdef")},
}
JUDGED = "Dice 0.910 ± 0.03 on 6 validation cases. The encoder moved 0.42 %. Review shows where it errs."


class Desk:
    """The dock in a viewer, with a worker that does nothing; told by the tests what it would say."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.dock = TrainDock(viewer)
        self.docked = viewer.window.add_dock_widget(self.dock, name="Train")
        self.session = Session.of(viewer)

    def open(self, folder: Path) -> Desk:
        with self.qtbot.waitSignal(self.session.case_shown):
            self.session.open(folder)
        return self

    def greet(self) -> Desk:
        with self.qtbot.waitSignal(self.session.runner.greeted):
            self.session.runner._client.greeting.set_result(GREETING)
        return self

    @property
    def jobs(self) -> list[Job]:
        """All that were submitted."""
        return [job for job, _ in self.session.runner._client.submitted]

    @property
    def said(self) -> list[Any]:
        return self.session.runner._client.said

    def tell(self, number: int, *events: Event | Failed) -> None:
        """What the worker says of the job of that number."""
        for event in events:
            self.session.runner._client.submitted[number][1](event)
        self.qtbot.wait(20)

    def train(self) -> None:
        """Press Train; it begins a moment later, when all that was painted is on the disk."""
        self.dock._train.click()
        self.qtbot.waitUntil(lambda: self.dock._train.isEnabled() != self.session.training)

    def estimates(self) -> list[Any]:
        self.qtbot.wait(900)
        return [job.of for job in self.jobs if isinstance(job, Estimate)]

    def shown(self, name: str) -> str:
        """What a label reads; empty where it cannot be seen."""
        label = self.dock.findChild(QLabel, name)
        return label.text() if label.isVisible() else ""


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot) -> Desk:
    return Desk(viewer, qtbot)


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return write_eyes(tmp_path / "eyes")


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr("napari_tlseg.gui.notices.show_error", told.append)
    return told


def make_run(folder: Path, name: str = "clicks-0.001", **changes: Any) -> Path:
    """A run as `runs_of` finds it; the weights are no weights."""
    run = folder / "runs" / name
    run.mkdir(parents=True)
    (run / "model.safetensors").write_bytes(b"")
    (run / "job.json").write_text("{}")
    (run / "summary.json").write_text(json.dumps(SUMMARY | changes))
    lines = [
        {"event": "Stepped", "step": 1, "loss": 1.0},
        {"event": "Evaluated", "step": 1, "scores": {"dice": 0.9}, "best": True},
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def make_source(folder: Path, name: str = "clicks") -> Path:
    (folder / "sources").mkdir(exist_ok=True)
    path = folder / "sources" / f"{name}.safetensors"
    path.write_bytes(b"")
    return path


def introduce(source: Path, facts: dict[str, Any]) -> None:
    """Let a file say this of itself."""
    header = json.dumps({"__metadata__": {"provenance": json.dumps(facts), "sha256": "ab" * 32}}).encode()
    source.write_bytes(len(header).to_bytes(8, "little") + header)


# what would run


def test_nothing_can_be_trained_before_a_folder_is_open(desk: Desk) -> None:
    dock = desk.dock
    assert not dock._train.isEnabled() and not dock.plan.source._button.isEnabled() and not dock._warm.isEnabled()
    with pytest.raises(InputError, match="no folder is open"):
        dock.job()
    assert "Getting ready" in dock.cost.text()


def test_train_runs_with_the_defaults_of_the_job(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.train()
    assert desk.jobs == [Finetune(data=eyes, out=eyes / "runs" / "scratch", unreadable="skip")]
    assert not desk.dock._train.isEnabled() and not desk.dock.plan.source._button.isEnabled(), "one at a time"
    desk.tell(0, Finished(reason="stopped", out=None))
    assert desk.dock._train.isEnabled() and desk.dock.plan.source._button.isEnabled()
    assert desk.shown("said") == "Stopped before there was anything to keep."


def test_pretrain_runs_with_the_defaults_of_the_job_and_its_result_is_the_source(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    box = desk.dock.plan.source
    assert box.value() == "none" and box._button.text() == "Pretrain on my 8 clicks"
    assert not desk.dock.strength.isEnabled(), "nothing to hold the encoder to"
    box._button.click()
    out = eyes / "sources" / "clicks.safetensors"
    assert desk.jobs == [Pretrain(data=(eyes,), out=out, head="heatmap", unreadable="skip")]
    make_source(eyes)
    scores = {"validation": {"error": 4.4, "cases": 1}, "held_out": {"error": 9.0, "cases": 2}}
    desk.tell(0, Finished(reason="done", out=out, summary=scores))
    assert desk.shown("pretrained") == "Pretrained: finds the centre to within 4 pixels (median of 1 validation case)."
    assert box.value() == out and box._combo.currentText() == "my clicks: clicks" and box._button.isEnabled()
    assert desk.dock.strength.isEnabled()
    job = desk.dock.job()
    assert (job.source, job.strength, job.out) == (out, Finetune.strength, eyes / "runs" / "clicks-0.001")
    assert box.job().out.name == "clicks-2.safetensors", "the next one replaces nothing"


def test_a_folder_that_was_pretrained_on_opens_with_the_latest_source(desk: Desk, eyes: Path, tmp_path: Path) -> None:
    latest = make_source(eyes)
    desk.open(eyes)
    assert desk.dock.plan.source.value() == latest
    desk.open(write_eyes(tmp_path / "others"))
    assert desk.dock.plan.source.value() == "none", "of another folder it is not offered"


def test_few_clicks_are_said(desk: Desk, eyes: Path) -> None:
    rows = (eyes / "clicks.csv").read_text().splitlines()
    for count, enabled in ((0, False), (1, False), (2, True), (4, True)):
        (eyes / "clicks.csv").write_text("\n".join(rows[: count + 1]) + "\n")
        desk.open(eyes)
        assert desk.dock.plan.source._button.isEnabled() == enabled
        assert desk.shown("pretrained").startswith("Click at least 5 targets")


def pick(desk: Desk, text: str) -> None:
    combo = desk.dock.plan.source._combo
    combo.setCurrentIndex(next(index for index in range(combo.count()) if combo.itemText(index).startswith(text)))
    combo.activated.emit(combo.currentIndex())


def test_the_sources_that_can_be_picked(desk: Desk, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, source = make_run(eyes), make_source(eyes)
    desk.open(eyes)
    box, heard = desk.dock.plan.source, []
    box.valueChanged.connect(lambda: heard.append(box.value()))
    pick(desk, "run: clicks-0.001")
    pick(desk, "ImageNet")
    job = desk.dock.job()
    assert (job.source, job.encoder, job.out.name) == ("imagenet", "densenet121", "imagenet-0.001")
    desk.dock.plan.form.setValue({"encoder": "resnet18"})
    assert desk.dock.job().encoder == "resnet18"
    chosen = eyes.parent / "mine.pth"
    chosen.touch()
    answers = [("", ""), (str(chosen), "")]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: answers.pop(0))
    pick(desk, "a file")
    assert box.value() == "imagenet" and box._combo.currentText().startswith("ImageNet"), "no file was chosen"
    pick(desk, "a file")
    assert box._combo.currentText() == "file: mine.pth" and desk.dock.job().out.name == "mine.pth-0.001"
    pick(desk, "nothing")
    pick(desk, "my clicks")
    assert heard == [run, "imagenet", chosen, "none", source]
    source.unlink()
    desk.session.runs_changed.emit()
    assert box.value() == "none", "what is gone cannot be picked"


def test_the_card_of_the_picked_source_is_shown(desk: Desk, eyes: Path) -> None:
    facts = {"task": "localize", "encoder": "unet", "recipe": "fundus", "size": 192, "seen": ["a"] * 27, "init": "none"}
    facts |= {"trained_on": "eyes <2>", "scores": {"error": 17.31}, "steps": 800, "created": "2026-02-03T10:00:00"}
    introduce(make_source(eyes), facts)
    make_run(eyes)
    desk.open(eyes)
    box = desk.dock.plan.source
    assert desk.shown("card") == "Learned from clicks of eyes <2>, 27 cases; validation: 17.3 px off."
    about = box._combo.itemData(box._combo.currentIndex(), Qt.ItemDataRole.ToolTipRole)
    assert (
        about == box._card.toolTip()
        and "eyes &lt;2&gt;" in about
        and "SHA-256 abababababab…, made 2026-02-03." in about
    )
    pick(desk, "run: clicks-0.001")
    assert not desk.shown("card"), "its model says nothing of itself"
    pick(desk, "my clicks")
    assert desk.shown("card")
    pick(desk, "nothing")
    assert not desk.shown("card")


def make_localizer(folder: Path, name: str, head: str) -> Path:
    path = make_source(folder, name)
    introduce(path, {"task": "localize", "head": head, "encoder": "unet", "recipe": "fundus", "size": 192})
    return path


def test_where_there_is_a_localizer_it_says_where_to_look(desk: Desk, eyes: Path) -> None:
    """Whatever the source is; one that gives a single point and knows no doubt does not count."""
    make_localizer(eyes, "point", "regression")
    desk.open(eyes)
    box = desk.dock.plan.focus
    assert not box.isEnabled() and desk.dock.job().focus == "none"
    path = make_localizer(eyes, "clicks", "heatmap")
    desk.session.runs_changed.emit()
    pick(desk, "my clicks: clicks")
    assert box.isEnabled() and box.isChecked() and desk.dock.job().focus == path
    pick(desk, "nothing")
    assert desk.dock.job().source == "none" and desk.dock.job().focus == path
    desk.qtbot.mouseClick(box, Qt.MouseButton.LeftButton)
    assert box.isChecked() is False and desk.dock.job().focus == "none"


def test_a_run_is_named_after_its_source_and_strength(desk: Desk, eyes: Path) -> None:
    make_source(eyes)
    desk.open(eyes)
    for strength, name in ((0.0, "clicks-0"), (math.inf, "clicks-inf"), (8.0, "clicks-8")):
        desk.dock.strength.setValue(strength)
        assert desk.dock.job().out.name == name and desk.dock.job().strength == strength
    make_run(eyes, "clicks-8")
    assert desk.dock.job().out.name == "clicks-8-2"


def test_a_run_is_gone_on_from_where_one_is_shown_and_wanted(desk: Desk, eyes: Path) -> None:
    run = make_run(eyes)
    desk.open(eyes)
    assert not desk.dock._warm.isEnabled() and desk.dock.job().start is None
    desk.session.show_run(run)
    assert desk.dock._warm.text() == "Go on from the run shown (clicks-0.001)" and desk.dock.job().start is None
    desk.dock._warm.click()
    assert desk.dock.job().start == run
    desk.session.show_run(None)
    assert desk.dock.job().start is None and not desk.dock._warm.isEnabled()


def test_what_is_taken_of_the_source_can_be_chosen(desk: Desk, eyes: Path, complaints: list[str]) -> None:
    make_source(eyes)
    desk.open(eyes)
    form = desk.dock.plan.form
    form.setValue({"transfer": "lowest:2"})
    assert desk.dock.job().transfer == "lowest:2" and not form.problems()
    form.setValue({"transfer": "mean-var"})
    assert not form.problems(), "λ is the slider's"
    with pytest.raises(InputError, match=r"leaves --lambda .* nothing to hold to; give --lambda 0"):
        desk.dock.job()
    desk.dock.strength.setValue(0.0)
    assert desk.dock.job().transfer == "mean-var"
    pick(desk, "nothing")
    assert "takes from a source, there is none" in form.problems()["transfer"]


def test_masks_of_several_datasets_are_no_clicks(desk: Desk, eyes: Path) -> None:
    path = make_source(eyes, "med")
    introduce(path, {"task": "hydra", "encoder": "unet", "recipe": "plain", "size": 128})
    desk.open(eyes)
    pick(desk, "masks of several datasets: med")
    assert desk.dock.job().source == path


def test_wrong_settings_are_refused_with_their_sentence(desk: Desk, eyes: Path, complaints: list[str]) -> None:
    desk.open(eyes)
    desk.dock.plan.form.setValue({"size": 7})
    desk.train()
    desk.dock.plan.source.form.setValue({"batch": 1})
    desk.dock.plan.source._button.click()
    assert desk.jobs == []
    assert complaints == [
        "Size, pixels 7 is not possible; give between 32 and 2048",
        "Images per step 1 is not possible; give at least 2",
    ]
    desk.dock.plan.form.setValue({"size": 64, "solver": "paper"})
    desk.dock.strength.setValue(math.inf)
    desk.train()
    assert complaints[2] == "‘Solver’ paper cannot express ‘Strength λ’ inf; use ‘Solver’ stable"
    assert desk.dock.plan.form.problems() == {} and desk.jobs == []


# what it would take


def test_the_cost_is_asked_for_once_and_told(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    assert desk.estimates() == [], "the worker is not up yet"
    desk.greet()
    assert desk.shown("no_gpu") == "GPU not used: PyTorch finds no GPU that it can use."
    (first,) = desk.estimates()
    desk.tell(0, Finished(reason="done", out=None, summary=COST))
    first, second = desk.estimates()
    assert {type(first), type(second)} == {Finetune, Pretrain}, "one after the other"
    desk.tell(1, Finished(reason="done", out=None, summary=COST))
    told = "5 {} to learn from, 1 to judge by, 2 held out for a final look. About 2 min (CPU, threads: 2)."
    assert desk.dock.cost.text() == told.format("masks")
    assert desk.dock.plan.source.cost.text() == told.format("clicks")
    assert len(desk.estimates()) == 2, "and not again by itself"
    desk.dock.plan.form.setValue({"steps": 10})
    desk.dock.plan.form.setValue({"steps": 20, "device": "mps"})
    *_, third = desk.estimates()
    assert len(desk.jobs) == 3 and isinstance(third, Finetune) and third.steps == 20
    assert desk.jobs[2].device == "mps"
    desk.tell(2, Failed(sentence="no masks; add --masks", traceback="", kind="input"))
    assert desk.dock.cost.text() == "no masks; add ‘Folder of the masks’"
    assert len(desk.estimates()) == 3


def test_an_estimate_gives_way_to_a_start_and_is_made_up_for(desk: Desk, eyes: Path) -> None:
    desk.open(eyes).greet()
    assert len(desk.estimates()) == 1
    desk.train()
    assert desk.said == [Stop(id=0)]
    desk.tell(0, Finished(reason="stopped", out=None))
    assert len(desk.estimates()) == 1, "not while something is trained"
    assert isinstance(desk.jobs[1], Finetune) and not desk.dock.cost.isVisible()
    desk.tell(1, Finished(reason="stopped", out=None))
    assert len(desk.estimates()) == 2 and desk.dock.cost.isVisible()


def test_an_estimate_waits_for_other_jobs_and_for_being_seen(desk: Desk, eyes: Path) -> None:
    desk.docked.hide()
    desk.open(eyes).greet()
    assert desk.estimates() == []
    task = desk.session.runner.submit(Predict(data=(eyes,), model=eyes, out=eyes))
    desk.docked.show()
    assert desk.estimates() == []
    task.tell(Finished(reason="done", out=None))
    assert len(desk.estimates()) == 1


def test_for_an_estimate_nothing_is_downloaded(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    pick(desk, "ImageNet")
    desk.greet().estimates()
    desk.tell(0, Finished(reason="done", out=None, summary=COST))
    (ours,) = (job for job in desk.estimates() if isinstance(job, Finetune))
    assert (ours.source, ours.encoder) == ("none", "densenet121") and desk.dock.job().source == "imagenet"


# what it hears


def test_the_slider_moves_the_strength_of_what_runs(desk: Desk, eyes: Path, qtbot: QtBot) -> None:
    make_source(eyes)
    desk.open(eyes)
    desk.train()
    pick(desk, "nothing")
    assert desk.dock.strength.isEnabled(), "what runs has a source"
    desk.dock.strength.setValue(math.inf)
    assert desk.said == [SetStrength(id=0, strength=math.inf)]
    desk.tell(0, Finished(reason="stopped", out=None))
    assert not desk.dock.strength.isEnabled()
    pick(desk, "my clicks")
    qtbot.wait(100)
    desk.dock.strength.setValue(0.5)
    assert len(desk.said) == 1, "nothing runs"


def test_a_training_is_followed(desk: Desk, eyes: Path) -> None:
    source = make_source(eyes)
    desk.open(eyes)
    dock = desk.dock
    assert not dock.course.curves.isVisible() and not dock.course.progress.isVisible()
    desk.train()
    assert dock.course.progress.isVisible()
    desk.tell(
        0,
        Noted(text="Recipe plain; --recipe names another."),
        Started(stage="train", total=50),
        *(Stepped(step=step, loss=1 / step, strength=1e-3) for step in range(1, 26)),
        Evaluated(step=25, scores={"dice": 0.8}, kept=True, drift=0.0042),
    )
    assert dock.course._notes.text() == "Recipe plain; ‘Recipe’ names another." and dock.course._assumed.isVisible()
    assert dock.strength._drift.text() == "moved 0.42 %"
    assert dock.course.curves.isVisible() and dock.course.curves._heading.text() == "clicks-0.001"
    assert dock.course.curves._history.steps[-1] == 25 and dock.course.curves._history.total == 50
    desk.tell(0, Noted(text="λ = inf cannot be, it must be finite with the solver paper; it stays at 0.001."))
    assert desk.shown("said").startswith("λ = inf cannot be")
    make_run(eyes)
    desk.tell(0, Finished(reason="done", out=eyes / "runs" / "clicks-0.001", summary=SUMMARY))
    assert desk.shown("said") == f"clicks-0.001: {JUDGED}"
    assert desk.session.run.name == "clicks-0.001" and not dock.course.progress.isVisible()
    assert dock.plan.source.value() == source


def test_a_training_that_another_began_or_an_earlier_dock_is_followed_too(desk: Desk, eyes: Path) -> None:
    desk.open(eyes)
    desk.session.runner.submit(Finetune(data=eyes, out=eyes / "runs" / "a"))
    assert desk.dock.course.progress.task is not None and not desk.dock._train.isEnabled()
    desk.viewer.window.remove_dock_widget(desk.docked)
    desk.dock = TrainDock(desk.viewer)
    desk.docked = desk.viewer.window.add_dock_widget(desk.dock)
    gc.collect()
    assert desk.dock.course.progress.task is not None and not desk.dock._train.isEnabled()
    desk.tell(0, Started(stage="train", total=5), Finished(reason="stopped", out=None))
    assert desk.dock._train.isEnabled() and desk.dock.course.progress.task is None


def test_a_failure_is_said_and_what_was_saved_is_shown(desk: Desk, eyes: Path, complaints: list[str]) -> None:
    make_source(eyes)
    desk.open(eyes)
    desk.train()
    run = make_run(eyes)
    (run / "summary.json").unlink()
    desk.tell(0, Failed(sentence="the worker died, start again", traceback="", kind="died"))
    assert desk.shown("said") == "the worker died, start again" and complaints == ["the worker died, start again"]
    assert desk.session.run == Run(run) and desk.dock._train.isEnabled()


def test_the_run_that_is_picked_is_shown_but_not_while_another_is_trained(desk: Desk, eyes: Path) -> None:
    first, second = make_run(eyes), make_run(eyes, "clicks-0", drift=0.2, validation={"dice_mean": None, "cases": []})
    desk.open(eyes)
    desk.session.show_run(first)
    assert desk.shown("said").startswith("clicks-0.001: Dice 0.910") and desk.dock.course.curves.isVisible()
    desk.session.show_run(second)
    assert "no validation masks to judge it by" in desk.shown("said")
    assert desk.dock.strength._drift.text() == "moved 20 %"
    desk.train()
    desk.session.show_run(first)
    assert desk.shown("said") == ""


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (
            SUMMARY,
            f"run: {JUDGED}",
        ),
        (
            SUMMARY | {"drift": None, "validation": {"dice_mean": 0.5, "dice_sd": None, "cases": ["a"]}},
            "run: Dice 0.500 on 1 validation case. Too few to judge by. Review shows where it errs.",
        ),
        (
            SUMMARY | {"drift": None, "validation": {"dice_mean": None, "cases": []}},
            "run is trained. There are no validation masks to judge it by: look at it in Review.",
        ),
        (
            {"reason": "stopped", "validation": {"dice_mean": None, "cases": ["a"]}},
            "run was stopped: what it learned is kept, but was not scored.",
        ),
        ({}, "run did not come to its end: its best model so far is kept, but was not scored."),
    ],
)
def test_the_verdict(summary: dict[str, Any], words: str) -> None:
    assert verdict(Run(Path("run"), summary)) == words


# how it looks


def test_settings_that_are_being_chosen_have_the_room_of_the_curves(desk: Desk, eyes: Path) -> None:
    run = make_run(eyes)
    desk.open(eyes)
    dock = desk.dock
    dock.plan.settings.set_open(True)
    assert not dock.course.curves.isVisible()
    desk.session.show_run(run)
    assert not dock.course.curves.isVisible()
    dock.plan.settings.set_open(False)
    assert dock.course.curves.isVisible()
    dock.plan.source.settings.set_open(True)
    assert not dock.course.curves.isVisible()
    desk.train()
    desk.tell(0, Started(stage="train", total=5))
    assert dock.course.curves.isVisible(), "what runs is to be seen"


def test_with_a_path_every_plot_can_be_seen_and_none_lies_over_another(desk: Desk, eyes: Path, qtbot: QtBot) -> None:
    stages = [
        {"strength": strength, "drift": 0.01, "scores": {"dice_mean": 0.9, "dice_sd": 0.02, "precision_mean": 0.9}}
        for strength in ("inf", 0.01, 0.0)
    ]
    advice = "Take λ = 0.01: within one standard error of the best, and closest to the source. " * 2
    run = make_run(eyes, "clicks-path", path=stages, recommendation=advice)
    make_source(eyes)
    desk.open(eyes).greet()
    dock, window = desk.dock, desk.viewer.window._qt_window
    window.resize(1250, 1000)
    desk.session.show_run(run)
    qtbot.waitUntil(dock.path_plot.isVisible)
    shown = [dock.findChild(Shrinking), dock.strength, dock.path_plot, dock.cost, dock._warm, dock._train]
    shown += [dock.course._said, dock.course._plots]

    def is_apart() -> bool:
        places = [QRect(each.mapTo(dock, QPoint()), each.size()) for each in shown]
        return all(a.bottom() < b.top() and dock.rect().contains(b) for a, b in pairwise(places))

    qtbot.waitUntil(is_apart)
    for plot in dock.path_plot.findChildren(Plot):
        assert plot.height() >= plot.minimumSizeHint().height()
    scroll = dock.course._plots
    for plot in dock.course.curves.findChildren(Plot):
        scroll.ensureWidgetVisible(plot, 0, 0)
        qtbot.waitUntil(lambda plot=plot: not plot.isVisible() or plot.visibleRegion().boundingRect() == plot.rect())
    window.resize(1250, 1400)
    qtbot.waitUntil(lambda: scroll.verticalScrollBar().maximum() == 0)  # nothing scrolls where there is room


@pytest.mark.parametrize("width", [330, 500])
def test_train_stop_and_the_slider_are_in_sight_and_no_text_is_cut_off(
    desk: Desk, eyes: Path, qtbot: QtBot, width: int
) -> None:
    make_source(eyes)
    desk.open(eyes).greet()
    dock, window = desk.dock, desk.viewer.window._qt_window
    window.resize(1280, 1000)
    dock.setFixedWidth(width)
    qtbot.wait(50)
    assert dock.findChild(Shrinking).verticalScrollBar().maximum() == 0, "nothing scrolls where there is room"
    desk.train()
    desk.tell(0, Started(stage="train", total=50), Noted(text="a long note " * 20), Stepped(step=1, loss=1))
    qtbot.wait(50)
    for widget in (dock._train, dock.course.progress._stop, dock.strength._slider, dock.course.curves):
        assert widget.visibleRegion().boundingRect() == widget.rect()
    for widget in (dock._train, dock.plan.source._button, dock.plan.source._combo):
        assert widget.width() >= widget.minimumSizeHint().width()
        assert dock.rect().contains(widget.mapTo(dock, widget.rect().topRight()))
    for label in dock.findChildren(QLabel):
        if label.isVisible() and label.text():
            flows = label.wordWrap()
            needed = label.heightForWidth(label.width()) if flows else label.fontMetrics().height()
            assert label.height() >= needed, label.text()
