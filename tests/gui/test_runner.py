"""Jobs for a window: heard in its thread, in the order in which they were said, and told of when they fail."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import psutil
import pytest

from napari_tlseg.engine.messages import Failed, SetStrength, Stop
from napari_tlseg.engine.trainings import Estimate, Finetune
from napari_tlseg.events import Event, Finished, Noted, Stepped

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from napari_tlseg.gui.runner import Runner

pytestmark = pytest.mark.window

TRAIN = Finetune(data=Path("eyes"), out=Path("run"))
DONE = Finished(reason="done", out=None)
START = 120_000  # ms that a worker may take on a busy machine


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the user was told."""
    told: list[str] = []
    monkeypatch.setattr("napari_tlseg.gui.notices.show_error", told.append)
    return told


@pytest.fixture
def runner(qtbot: QtBot) -> Iterator[Runner]:
    from qtpy.QtCore import QObject

    from napari_tlseg.gui.runner import Runner

    parent = QObject()
    runner = Runner(parent)
    runner.start()
    yield runner
    runner.close()


# without a worker


@pytest.mark.usefixtures("idle_worker")
def test_events_are_heard_in_this_thread_and_the_end_comes_once(runner: Runner, qtbot: QtBot) -> None:
    heard: list[tuple[str, object]] = []
    runner.started.connect(lambda task: heard.append(("started", task)))
    runner.ended.connect(lambda task: heard.append(("ended", task)))

    def note(event: Event | Failed) -> None:
        assert threading.current_thread() is threading.main_thread()
        heard.append(("told", event))

    task = runner.submit(TRAIN, heard=note, ended=note)
    assert runner.tasks == [task] and task.running
    said = [Noted(text="a"), Stepped(step=1, loss=1.0), DONE]
    thread = threading.Thread(target=lambda: [task.tell(event) for event in said])
    thread.start()
    thread.join()
    assert heard == [("started", task)], "nothing is heard before the event loop runs"
    qtbot.waitUntil(lambda: len(heard) == 5)
    assert heard[1:] == [("told", said[0]), ("told", said[1]), ("ended", task), ("told", DONE)]
    assert runner.tasks == [] and not task.running and task.result == DONE


@pytest.mark.usefixtures("idle_worker")
def test_an_estimate_gives_way_to_whatever_comes(runner: Runner) -> None:
    runner.submit(TRAIN)
    runner.submit(Estimate(of=TRAIN))
    assert runner._client.said == []
    runner.submit(TRAIN)
    assert runner._client.said == [Stop(id=1)]


@pytest.mark.usefixtures("idle_worker")
def test_of_a_slider_that_is_dragged_the_first_and_the_last_value_are_sent(runner: Runner, qtbot: QtBot) -> None:
    task = runner.submit(TRAIN)
    for strength in (0.1, 0.2, 0.3, math.inf):
        runner.set_strength(task, strength)
    assert runner._client.said == [SetStrength(id=0, strength=0.1)]
    qtbot.waitUntil(lambda: len(runner._client.said) == 2)
    assert runner._client.said[1] == SetStrength(id=0, strength=math.inf)
    qtbot.wait(100)
    runner.set_strength(task, 0.5)
    assert runner._client.said[2] == SetStrength(id=0, strength=0.5), "after a moment of rest at once"
    task.tell(DONE)
    qtbot.waitUntil(lambda: not task.running)
    runner.set_strength(task, 0.7)
    qtbot.wait(100)
    assert len(runner._client.said) == 3, "to a job that is over nothing is said"


@pytest.mark.usefixtures("idle_worker")
def test_one_death_is_told_of_once(runner: Runner, qtbot: QtBot, complaints: list[str]) -> None:
    died = Failed(sentence="the worker died", traceback="", kind="died")
    tasks = [runner.submit(TRAIN), runner.submit(TRAIN)]
    for task in tasks:
        task.tell(died)
    qtbot.waitUntil(lambda: runner.tasks == [])
    assert complaints == ["the worker died"]
    for quietly in (True, False):
        runner.submit(TRAIN, quietly=quietly).tell(Failed(sentence="lost", traceback="", kind="input"))
    qtbot.waitUntil(lambda: runner.tasks == [])
    assert complaints == ["the worker died", "lost"], "a quiet one is left to whoever submitted it"


@pytest.mark.usefixtures("idle_worker")
def test_a_sentence_for_the_command_line_is_put_in_the_words_of_the_window(
    runner: Runner, qtbot: QtBot, complaints: list[str]
) -> None:
    sentence = "the memory is full; try a smaller --batch or --size"
    runner.submit(TRAIN).tell(Failed(sentence=sentence, traceback="", kind="memory"))
    qtbot.waitUntil(lambda: len(complaints) == 1)
    assert complaints == ["the memory is full; try a smaller ‘Images per step’ or ‘Size, pixels’"]


@pytest.mark.usefixtures("idle_worker")
def test_after_the_close_nothing_is_heard(runner: Runner, qtbot: QtBot, complaints: list[str]) -> None:
    heard: list[object] = []
    task = runner.submit(TRAIN, heard=heard.append, ended=heard.append)
    runner.ended.connect(heard.append)
    task.tell(Noted(text="on its way while the window closes"))
    runner.close()
    task.tell(Failed(sentence="the job was ended because", traceback="", kind="died"))
    qtbot.wait(50)
    assert heard == [] and complaints == []


def test_without_a_place_for_the_log_it_is_said_why_nothing_runs(
    tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tlseg.gui.runner import Runner

    (tmp_path / "file").touch()
    monkeypatch.setattr("napari_tlseg.gui.runner.log_file", lambda: tmp_path / "file" / "log")
    runner = Runner(None)
    for call in (runner.start, lambda: runner.submit(TRAIN)):
        with pytest.raises(OSError, match="file"):
            call()
    assert runner.tasks == []


# with a worker


@pytest.fixture
def odd_jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Jobs that fail on purpose, where this process and a worker find them."""
    folder = str(Path(__file__).parents[1] / "engine")
    monkeypatch.setenv("PYTHONPATH", folder)
    monkeypatch.setattr(sys, "path", [*sys.path, folder])
    import odd_jobs

    return odd_jobs


@pytest.mark.slow
def test_what_fails_in_the_worker_reaches_the_user_and_the_log(
    odd_jobs: ModuleType, runner: Runner, qtbot: QtBot, complaints: list[str], log: Path
) -> None:
    errors = {
        RuntimeError("shapes do not\nmatch"): "(RuntimeError: shapes do not match)",
        RuntimeError("CUDA out of memory. Tried to allocate"): "the memory of the GPU is full; ",
        MemoryError(): "the computer's memory is full; ",
        OSError(28, "No space left on device", "model.safetensors"): "model.safetensors: no space left on device; free",
    }
    for number, (error, words) in enumerate(errors.items(), start=1):
        with qtbot.waitSignal(runner.ended, timeout=START):
            runner.submit(odd_jobs.Raise(error=error))
        assert len(complaints) == number and words in complaints[-1] and "\n" not in complaints[-1]
        assert "--" not in complaints[-1], "no flags of the command line"
    text = log.read_text()
    assert text.count("Traceback") >= len(errors) and text.count("raise self.error") == len(errors)
    assert complaints[0] in text, "what the user was told, too"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="by a signal")
def test_a_killed_worker_is_told_of_within_a_second_and_the_next_job_runs(
    odd_jobs: ModuleType, runner: Runner, qtbot: QtBot, complaints: list[str]
) -> None:
    heard: list[Event] = []
    runner.submit(odd_jobs.Count(), heard=heard.append)
    runner.submit(odd_jobs.Count())
    qtbot.waitUntil(lambda: len(heard) > 3, timeout=START)
    first = runner.pid
    psutil.Process(first).kill()
    killed = time.monotonic()
    qtbot.waitUntil(lambda: runner.tasks == [], timeout=1000)
    assert time.monotonic() - killed < 1 and not runner.alive
    assert len(complaints) == 1 and "signal 9" in complaints[0] and "start again" in complaints[0]
    with qtbot.waitSignal(runner.ended, timeout=START) as ended:
        runner.submit(odd_jobs.Count(steps=2))
    assert ended.args[0].result.summary == {"steps": 2} and runner.pid != first
    psutil.Process(runner.pid).kill()
    qtbot.waitUntil(lambda: len(complaints) == 2, timeout=1000)


@pytest.mark.slow
def test_an_idle_worker_is_gone_at_once_ready_or_not(qtbot: QtBot) -> None:
    from napari_tlseg.gui.runner import Runner

    for ready in (False, True):
        runner = Runner(None)
        runner.start()
        if ready:
            qtbot.waitUntil(lambda runner=runner: runner.greeting is not None, timeout=START)
        else:
            time.sleep(0.5)  # importing torch
        pid, began = runner.pid, time.monotonic()
        runner.close()
        assert time.monotonic() - began < 1
        assert not psutil.pid_exists(pid)


def test_the_log_holds_what_the_user_was_told(log: Path, complaints: list[str]) -> None:
    from napari_tlseg.gui.notices import complain, explained

    complain("eye.png: cannot be read; look at it")
    complain(explained(KeyError("a defect")))
    text = log.read_text()
    assert "ERROR eye.png: cannot be read; look at it" in text
    assert "KeyError: 'a defect'" in text and str(log) in complaints[1]
    assert logging.getLogger("napari_tlseg").handlers
