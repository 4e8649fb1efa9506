"""How far a job is: in a dock, and in napari's activity dock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_tlseg.engine.jobs import Job, Predict
from napari_tlseg.engine.messages import Failed, Stop
from napari_tlseg.engine.trainings import Estimate, Finetune
from napari_tlseg.events import Event, Finished, Noted, Started, Stepped, Visited

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]

TRAIN = Finetune(data=Path("eyes"), out=Path("run"))
DONE = Finished(reason="done", out=Path("run"))
READ = [Started(stage="read", total=2), Visited(case="a"), Visited(case="b")]


def submitted(viewer: Viewer, job: Job, *events: Event | Failed):
    from napari_tlseg.gui.session import Session

    runner = Session.of(viewer).runner
    task = runner.submit(job)
    for event in events:
        task.tell(event)
    return task


def bars(viewer: Viewer) -> dict[str, tuple[int, int]]:
    """Those in the activity dock: what is written beside each, and its value and maximum."""
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar

    dialog = viewer.window._qt_window._activity_dialog
    found = [each for each in dialog.findChildren(QtLabeledProgressBar) if not each.isHidden()]
    return {
        each.description_label.text(): (each.qt_progress_bar.value(), each.qt_progress_bar.maximum()) for each in found
    }


def test_the_activity_dock_shows_a_job_until_its_end(viewer: Viewer, qtbot: QtBot) -> None:
    task = submitted(viewer, TRAIN)
    qtbot.waitUntil(lambda: list(bars(viewer)) == ["Training: "])
    task.tell(Started(stage="train", total=40))
    task.tell(Stepped(step=30, loss=1.0))
    qtbot.waitUntil(lambda: bars(viewer) == {"Training: ": (30, 40)})
    task.tell(Started(stage="score", total=4))
    qtbot.waitUntil(lambda: bars(viewer) == {"Training: scoring: ": (0, 4)})
    task.tell(DONE)
    qtbot.waitUntil(lambda: bars(viewer) == {})


def test_jobs_that_wait_have_their_bars_and_estimates_none(viewer: Viewer, qtbot: QtBot) -> None:
    tasks = [submitted(viewer, TRAIN), submitted(viewer, Predict(data=(Path("a"),), model=Path("m"), out=Path("o")))]
    tasks.append(submitted(viewer, Estimate(of=TRAIN)))
    qtbot.waitUntil(lambda: len(bars(viewer)) == 2)
    assert list(bars(viewer)) == ["Training: ", "Predicting: "]
    for task in tasks:
        task.tell(DONE)
    qtbot.waitUntil(lambda: bars(viewer) == {})


def test_a_job_that_is_over_at_once_leaves_no_bar(viewer: Viewer, qtbot: QtBot) -> None:
    submitted(viewer, TRAIN, *READ, DONE)
    qtbot.wait(400)
    assert bars(viewer) == {}


def test_bars_of_what_runs_go_with_the_window(viewer: Viewer, qtbot: QtBot) -> None:
    from napari.utils import progress

    submitted(viewer, TRAIN, *READ)
    qtbot.waitUntil(lambda: len(bars(viewer)) == 1)
    viewer.close()
    assert not list(progress._all_instances)


def test_no_bar_is_drawn_within_another(
    viewer: Viewer, viewers: Callable[[], Viewer], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine napari, which lets events in while it draws one, would go ever deeper."""
    from napari.utils import progress

    from napari_tlseg.gui import progress as module

    depth, deepest, whole = [0], [0], progress.update

    def update(self: progress, n: int = 1) -> None:
        depth[0] += 1
        deepest[0] = max(depth[0], deepest[0])
        qtbot.wait(30)  # longer than the timers take
        whole(self, n)
        depth[0] -= 1

    monkeypatch.setattr(progress, "update", update)
    monkeypatch.setattr(module, "MOMENT", 5)
    tasks = [submitted(each, TRAIN, Started(stage="train", total=40)) for each in (viewer, viewers())]
    for step in range(1, 11):
        for task in tasks:
            task.tell(Stepped(step=step, loss=1))
        qtbot.wait(20)
    qtbot.waitUntil(lambda: bars(viewer) == {"Training: ": (10, 40)})
    assert deepest == [1]
    for task in tasks:
        task.tell(DONE)
    qtbot.waitUntil(lambda: bars(viewer) == {})


@pytest.fixture
def widget(qtbot: QtBot):
    from napari_tlseg.gui.progress import Progress

    widget = Progress()
    qtbot.addWidget(widget)
    assert widget.isHidden() and widget.task is None
    return widget


def test_a_dock_says_the_stage_the_count_and_the_time_left(viewer: Viewer, qtbot: QtBot, widget) -> None:
    """The events come in a heap, while napari draws a bar for each: they are heard in their order all the same."""
    task = submitted(viewer, TRAIN)
    widget.follow(task)
    assert widget.isVisible() and widget._label.text() == "Getting ready …" and widget._bar.maximum() == 0
    heard: list[Event] = []
    task.heard.connect(heard.append)
    events = [*READ, Noted(text="well"), Started(stage="train", total=4), *(Stepped(step=n, loss=1) for n in (1, 2))]
    for event in events:
        task.tell(event)
        qtbot.wait(60)
    assert heard == events
    assert widget._label.text().startswith("Training: 2 of 4 · ") and widget._label.text().endswith(" s left")
    assert (widget._bar.value(), widget._bar.maximum()) == (2, 4)
    task.tell(DONE)
    qtbot.waitUntil(widget.isHidden)
    assert widget.task is None


def test_stop_is_said_once_and_stays_said(viewer: Viewer, qtbot: QtBot, widget) -> None:
    task = submitted(viewer, TRAIN, Started(stage="train", total=4))
    widget.follow(task)
    qtbot.waitUntil(lambda: widget._bar.maximum() == 4)
    widget._stop.click()
    widget._stop.click()
    task.tell(Stepped(step=1, loss=1))
    qtbot.waitUntil(lambda: widget._bar.value() == 1)
    assert widget._label.text() == "Stopping after this step …" and not widget._stop.isEnabled()
    assert task.parent()._client.said == [Stop(id=0)]
    task.tell(Finished(reason="stopped", out=None))
    qtbot.waitUntil(widget.isHidden)
    widget.follow(submitted(viewer, TRAIN))
    assert widget._stop.isEnabled()


def test_durations_are_as_exact_as_is_of_use() -> None:
    from napari_tlseg.gui.progress import duration

    assert [duration(seconds) for seconds in (0.4, 8, 59.4, 95, 3599, 5000)] == [
        *("0 s", "8 s", "59 s", "2 min", "1 h 0 min", "1 h 23 min"),
    ]
