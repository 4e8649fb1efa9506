"""Help while one clicks: what is asked of the worker and when, what is seen of its proposals, and that it gives way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from desk import LONG, Desk
from hands import Hands
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QListWidget

from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.engine.jobs import Assist
from napari_tlseg.engine.messages import Failed, Stop, Wake
from napari_tlseg.engine.trainings import Estimate
from napari_tlseg.events import Finished, Proposed, Started
from napari_tlseg.gui.click.dock import ClickDock
from napari_tlseg.gui.session import Session
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window
COUNT = 12
STOPPED = Finished(reason="stopped", out=None)


class Helped:
    """Somebody at the dock, of whose images the first seven are clicked."""

    def __init__(self, viewer: Viewer, qtbot: QtBot, folder: Path, clicked: int = 7) -> None:
        self.viewer, self.qtbot, self.folder = viewer, qtbot, folder
        self.truth = {case.name: case for case in read_dataset(folder)}
        write_clicks(folder, {case.key: case.click or () for case in [*self.truth.values()][:clicked]})
        self.session, self.hands = Session.of(viewer), Hands(viewer)
        self.dock = ClickDock(viewer)
        self.docked = viewer.window.add_dock_widget(self.dock, area="right")
        self.session.open(folder)
        self.wait(lambda: self.session.folder == folder and self.session.case is not None)

    def wait(self, holds: Callable[[], bool], timeout: int = 120_000) -> None:
        self.qtbot.waitUntil(holds, timeout=timeout)

    def click(self) -> None:
        """The middle of the target of the image shown."""
        before = self.session.case
        assert before is not None
        self.hands.click(self.session.image, *self.truth[before.name].click)
        self.wait(lambda: self.session.case is not before)

    def tick(self) -> None:
        self.qtbot.mouseClick(self.dock.findChild(QCheckBox, "help"), Qt.MouseButton.LeftButton, pos=QPoint(8, 8))

    def reads(self, words: str) -> bool:
        return words in self.dock.findChild(QLabel, "help words").text()

    @property
    def state(self) -> str:
        return str(self.dock.findChild(QLabel, "state").text())

    @property
    def submitted(self) -> list[tuple[Any, Callable[[Any], object]]]:
        """Each job that an idle worker was given, and what to call with its events."""
        return self.session.runner._client.submitted

    @property
    def said(self) -> list[Any]:
        return self.session.runner._client.said

    @property
    def stopped(self) -> set[int]:
        """The ids of the jobs that were told to stop."""
        return {request.id for request in self.said if isinstance(request, Stop)}

    def propose(self, name: str, point: tuple[float, float], doubt: float = 3.0, unsure: bool = False) -> None:
        """As the worker would, of the last job."""
        self.submitted[-1][1](Proposed(clicks=8, case=name, point=point, doubt=doubt, unsure=unsure))
        self.qtbot.wait(10)


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return write_eyes(tmp_path / "eyes", COUNT)


def layer(viewer: Viewer, name: str) -> Any:
    return viewer.layers[name] if name in viewer.layers else None


@pytest.mark.usefixtures("idle_worker")
def test_it_is_asked_for_woken_by_clicks_and_what_it_says_is_seen(viewer: Viewer, qtbot: QtBot, eyes: Path) -> None:
    user = Helped(viewer, qtbot, eyes)
    names = list(user.truth)
    ((job, tell),) = user.submitted
    assert job == Assist(data=eyes, unreadable="skip") and user.reads("Click 1 more")
    woken = len(user.said)
    user.click()
    assert user.said[woken:] == [Wake(id=0)]
    tell(Started(stage="train", total=50))
    user.wait(lambda: user.reads("Learning from your 8 clicks"))
    user.propose(names[8], (20.0, 30.0), doubt=5.0)
    user.propose(names[9], (21.0, 31.0), doubt=40.0, unsure=True)
    assert user.reads("Learned from 8 clicks") and "Enter accepts the proposed centre, give or take 5 px" in user.state
    np.testing.assert_array_equal(layer(viewer, "proposed centre").data, [[20, 30]])
    ring = layer(viewer, "doubt of the proposal")
    np.testing.assert_array_equal(ring.data, [[20, 30]])
    assert ring.size.tolist() == [10], "its radius is the doubt"
    user.propose(names[8], (40.0, 50.0))
    np.testing.assert_array_equal(layer(viewer, "proposed centre").data, [[20, 30]], "not under the user's eyes")
    user.hands.press(Qt.Key.Key_Return)
    user.wait(lambda: user.session.case.name == names[9])
    assert read_dataset(eyes)[names[8]].click == (20, 30)
    assert ring.size.tolist() == [80] and user.state.startswith("Unsure: look here first. The target may lie 40 px")
    items = user.dock.findChild(QListWidget)
    assert [items.item(row).text()[-1] == "?" for row in range(COUNT)] == [row == 9 for row in range(COUNT)]
    user.click()
    assert len(layer(viewer, "proposed centre").data) == len(ring.data) == 0, "of the next nothing is proposed yet"


@pytest.mark.usefixtures("idle_worker")
def test_it_gives_way_and_comes_back(viewer: Viewer, qtbot: QtBot, eyes: Path) -> None:
    user = Helped(viewer, qtbot, eyes, clicked=8)
    user.propose(list(user.truth)[8], (20.0, 30.0))
    other = user.session.runner.submit(Estimate(of=None))  # type: ignore[arg-type]
    assert user.stopped == {0}
    user.submitted[0][1](STOPPED)
    user.wait(lambda: len(user.session.runner.tasks) == 1)
    assert [type(job) for job, _ in user.submitted] == [Assist, Estimate], "it does not wait in the line"
    assert layer(viewer, "proposed centre") is not None, "what was proposed stays"
    user.submitted[1][1](STOPPED)
    user.wait(lambda: not other.running and len(user.submitted) == 3)
    assert isinstance(user.submitted[2][0], Assist)
    user.docked.hide()
    user.wait(lambda: user.stopped == {0, 2})
    user.submitted[2][1](STOPPED)
    user.wait(lambda: not user.session.runner.tasks)
    user.docked.show()
    user.wait(lambda: len(user.submitted) == 4)
    user.tick()
    assert user.stopped == {0, 2, 3} and user.reads("Tick this")
    assert len(layer(viewer, "proposed centre").data) == 0
    user.submitted[3][1](STOPPED)
    user.wait(lambda: not user.session.runner.tasks)
    user.click()
    assert len(user.submitted) == 4
    user.tick()
    assert len(user.submitted) == 5 and user.session.folder is not None


@pytest.mark.usefixtures("idle_worker")
def test_a_failure_is_said_once_and_not_tried_again(viewer: Viewer, qtbot: QtBot, eyes: Path) -> None:
    user = Helped(viewer, qtbot, eyes, clicked=8)
    failed = Failed(sentence="the computer's memory is full; close other programs", traceback="", kind="memory")
    user.submitted[0][1](failed)
    user.wait(lambda: user.reads("memory is full"))
    user.click()
    assert len(user.submitted) == 1 and user.session.case.name == list(user.truth)[9]


@pytest.mark.usefixtures("idle_worker")
def test_another_folder_begins_anew_and_volumes_are_clicked_without_help(
    viewer: Viewer, qtbot: QtBot, eyes: Path
) -> None:
    user = Helped(viewer, qtbot, eyes, clicked=8)
    user.propose(list(user.truth)[8], (20.0, 30.0))
    chests = write_chests(eyes.parent / "chests", 2)
    user.session.open(chests)
    user.wait(lambda: user.session.folder == chests)
    assert user.stopped == {0} and user.reads("In CTs there is no help")
    assert not user.dock.findChild(QCheckBox, "help").isEnabled()
    user.propose("chest0", (1.0, 2.0))  # of a job that is stopped, and late
    user.submitted[0][1](STOPPED)
    user.wait(lambda: not user.session.runner.tasks)
    assert len(user.submitted) == 1 and user.dock.clicking.proposal is None


def test_a_real_worker_proposes_what_is_then_accepted_and_yields_to_a_training(
    viewer: Viewer, qtbot: QtBot, eyes: Path
) -> None:
    desk = Desk(viewer, qtbot)
    user = Helped(viewer, qtbot, eyes)
    user.click()
    user.wait(lambda: "proposed centre" in viewer.layers)
    shown = user.session.case
    user.hands.press(Qt.Key.Key_Return)
    assert np.hypot(*np.subtract(read_dataset(eyes)[shown.name].click, user.truth[shown.name].click)) < 8
    desk.train(**LONG)
    assert user.session.training and not any(isinstance(task.job, Assist) for task in user.session.runner.tasks)
    desk.stop()
    user.wait(lambda: any(isinstance(task.job, Assist) for task in user.session.runner.tasks))
    viewer.close()
