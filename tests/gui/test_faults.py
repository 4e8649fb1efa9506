"""What goes wrong while a training runs: the viewer lives, says so in one sentence, and can start again."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from closing import press_close
from desk import LONG, TINY, Desk, events
from faults import Broken, FullDisk
from qtpy.compat import isalive
from qtpy.QtWidgets import QMessageBox

from napari_tlseg.data.run import read_summary
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Evaluated
from napari_tlseg.gui.runs import runs_of
from napari_tlseg.nets.checkpoint import load
from tiny import write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow]

MODEL = "model.safetensors"


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker finds the trainings that fail."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return write_eyes(tmp_path / "eyes")


@pytest.fixture
def desk(viewer: Viewer, qtbot: QtBot, eyes: Path) -> Desk:
    return Desk(viewer, qtbot).open(eyes)


def learned(desk: Desk) -> None:
    """There is a model to lose."""
    desk.wait(lambda: any(isinstance(event, Evaluated) and event.kept for event in desk.heard))


def replace_job(desk: Desk, kind: type[Finetune], monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Let Train run this one in place of its own."""
    make = desk.dock.job

    def job() -> Finetune:
        ours = make()
        return kind(**{field.name: getattr(ours, field.name) for field in fields(ours)}, **more)

    monkeypatch.setattr(desk.dock, "job", job)


def trains_again(desk: Desk) -> bool:
    desk.train(**TINY, steps=2)
    desk.wait_until_over()
    return len(desk.steps) == 2 and "Dice" in desk.dock.course._said.text()


def test_a_killed_worker_is_told_of_at_once_and_its_last_model_is_kept(desk: Desk, eyes: Path) -> None:
    desk.train(**LONG)
    learned(desk)
    psutil.Process(desk.session.runner.pid).kill()
    killed = time.monotonic()
    desk.wait(lambda: bool(desk.told), timeout=1000)
    assert time.monotonic() - killed < 1
    (told,) = desk.told
    assert "worker process ended unexpectedly" in told and "\n" not in told
    assert desk.dock.course._said.text() == told
    (run,) = runs_of(eyes)
    assert load(run.path / MODEL).provenance.steps >= 25 and desk.session.run == run
    assert desk.dock.plan.source._combo.findText(f"run: {run.name}") >= 0
    assert trains_again(desk) and len(runs_of(eyes)) == 2 and len(desk.told) == 1


def test_an_error_in_the_worker_is_a_sentence_here_and_a_traceback_in_the_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    errors = {
        Broken.sentence: "RuntimeError: mat1 and mat2",
        "CUDA out of memory.": "memory of the GPU is full",
    }
    for number, (sentence, words) in enumerate(errors.items(), start=1):
        with monkeypatch.context() as patch:
            replace_job(desk, Broken, patch, sentence=sentence)
            desk.train(**LONG)
            desk.wait_until_over()
        told = desk.told[-1]
        assert len(desk.told) == number and desk.dock.course._said.text() == told
        assert words in told and "\n" not in told and "Traceback" not in told
        text = log.read_text()
        assert text.count("Traceback (most recent call last)") >= number
        assert text.count("raise RuntimeError(self.sentence)") >= number
    assert desk.session.run is None and trains_again(desk)


def test_a_full_disk_is_said_with_the_way_out(desk: Desk, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        replace_job(desk, FullDisk, patch)
        desk.train(**LONG)
        desk.wait_until_over()
    (told,) = desk.told
    assert "no space left on device; free some space" in told
    assert list((eyes / "runs").glob("*/*")) == [] and desk.dock._train.isEnabled()


@pytest.mark.usefixtures("lent_worker")
def test_a_folder_that_is_removed_in_mid_training(desk: Desk, eyes: Path) -> None:
    desk.train(**LONG)
    learned(desk)
    while eyes.exists():  # what the training writes in between keeps its folder from going
        shutil.rmtree(eyes, ignore_errors=True)
    desk.wait_until_over()
    assert not eyes.exists()
    assert any(str(eyes) in told and "no such file" in told.lower() for told in desk.told)
    assert desk.viewer.window._qt_window.isVisible() and desk.session.run is None
    desk.open(write_eyes(eyes.parent / "others"))
    assert trains_again(desk)


@pytest.mark.usefixtures("lent_worker")
def test_an_image_that_cannot_be_read_is_named(desk: Desk, eyes: Path) -> None:
    for name in ("eye2", "eye5"):
        image = eyes / "images" / f"{name}.png"
        image.write_bytes(image.read_bytes()[:200])
    desk.train(**LONG)
    desk.wait_until_over()
    (told,) = desk.told
    assert "images/eye" in told and not (eyes / "runs" / "scratch").exists()


class Question:
    """Whether to close the window while a training runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.answer = 0, QMessageBox.StandardButton.Cancel
        monkeypatch.setattr(QMessageBox, "question", self._answer)

    def _answer(self, *_: Any) -> Any:
        self.asked += 1
        return self.answer


def test_who_closes_the_viewer_in_mid_training_is_asked(
    desk: Desk, eyes: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    question, window, pid = Question(monkeypatch), desk.viewer.window._qt_window, desk.session.runner.pid
    desk.viewer.layers.clear()  # so that napari itself asks nothing
    desk.train(**LONG)
    learned(desk)
    press_close(window)
    qtbot.waitUntil(lambda: question.asked == 1)
    step = desk.steps[-1].step
    desk.wait(lambda: desk.steps[-1].step > step + 2)
    assert window.isVisible() and psutil.pid_exists(pid), "Cancel: all goes on"
    question.answer = QMessageBox.StandardButton.Close
    press_close(window)
    desk.wait(lambda: not isalive(window))
    assert question.asked == 2 and not psutil.pid_exists(pid)
    assert read_summary(eyes / "runs" / "scratch")["reason"] == "stopped", "what it had learned is saved"
    assert load(eyes / "runs" / "scratch" / MODEL).provenance.steps >= 25


def test_a_program_that_closes_the_viewer_is_not_asked(desk: Desk, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question, pid = Question(monkeypatch), desk.session.runner.pid
    desk.train(**LONG)
    learned(desk)
    began = time.monotonic()
    desk.viewer.close()
    assert question.asked == 0 and not psutil.pid_exists(pid) and time.monotonic() - began < 6
    assert (eyes / "runs" / "scratch" / MODEL).exists() and desk.told == []


def test_two_viewers_train_at_once_each_with_its_own_worker(
    desk: Desk, viewers: Callable[[], Viewer], qtbot: QtBot, tmp_path: Path
) -> None:
    other = Desk(viewers(), qtbot).open(write_eyes(tmp_path / "others"))
    assert desk.session.runner.pid != other.session.runner.pid
    for each in (desk, other):
        each.train(**LONG)
    counts = [len(each.steps) for each in (desk, other)]
    desk.wait(lambda: all(len(each.steps) > count + 5 for each, count in zip((desk, other), counts, strict=True)))
    desk.stop()
    count = len(other.steps)
    other.wait(lambda: len(other.steps) > count + 5)
    assert other.session.training and not desk.session.training
    psutil.Process(other.session.runner.pid).kill()
    other.wait_until_over()
    assert trains_again(desk)
    assert {path.parent.parent.name for path in tmp_path.glob("*/runs/*")} == {"eyes", "others"}


@pytest.mark.skipif(sys.platform == "win32", reason="counts file descriptors")
def test_five_rounds_leave_nothing_behind(viewers: Callable[[], Viewer], qtbot: QtBot, eyes: Path) -> None:
    """Beyond what the checks after every test find: they see the end, this the growth."""
    me, left = psutil.Process(), []
    for number in range(5):
        viewer = viewers()
        desk = Desk(viewer, qtbot).open(eyes)
        desk.train(**LONG)
        if number % 2:
            desk.stop()
        viewer.close()
        del viewer, desk
        qtbot.wait(50)
        left.append((len(me.children(recursive=True)), {thread.name for thread in threading.enumerate()}))
    assert all(each == left[0] for each in left), left
    assert all(events(run, "Stepped") for run in (eyes / "runs").iterdir())
