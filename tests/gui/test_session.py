"""What the docks of one viewer share: the folder, the case shown, and the way to the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from closing import press_close
from qtpy.compat import isalive
from qtpy.QtWidgets import QDialog, QMessageBox

from napari_tlseg.data.folder import write_clicks
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.events import Finished
from napari_tlseg.gui.session import Session
from tiny import write_chests, write_eyes

if TYPE_CHECKING:
    from napari import Viewer
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("idle_worker")]
TRAIN = Finetune(data=Path("eyes"), out=Path("run"))


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr("napari_tlseg.gui.notices.show_error", told.append)
    return told


@pytest.fixture
def session(viewer: Viewer) -> Session:
    return Session.of(viewer)


def opened(session: Session, qtbot: QtBot, folder: Path) -> Session:
    with qtbot.waitSignal(session.case_shown):
        session.open(folder)
    return session


# the folder and the case


def test_there_is_one_per_viewer(viewer: Viewer, viewers: Callable[[], Viewer]) -> None:
    first, second = Session.of(viewer), Session.of(viewers())
    assert first is Session.of(viewer) and first is not second and first.runner is not second.runner


def test_a_folder_opens_at_the_first_case_that_is_not_clicked(session: Session, qtbot: QtBot, tmp_path: Path) -> None:
    folder = write_eyes(tmp_path / "eyes", count=4)
    lines = (folder / "clicks.csv").read_text().splitlines()
    (folder / "clicks.csv").write_text("\n".join(lines[:3]) + "\n")
    heard: list[str] = []
    for name in ("opened", "clicks_changed", "runs_changed", "case_shown"):
        getattr(session, name).connect(lambda *_, name=name: heard.append(name))
    opened(session, qtbot, folder)
    assert session.case.name == "eye2" and session.folder == folder
    assert heard == ["opened", "clicks_changed", "runs_changed", "case_shown"]
    assert session.image.name == "eye2" and [layer.name for layer in session.viewer.layers] == ["eye2"]


def test_steps_go_round_and_only_the_last_case_asked_for_is_shown(
    session: Session, qtbot: QtBot, tmp_path: Path
) -> None:
    opened(session, qtbot, write_eyes(tmp_path / "eyes", count=4))
    shown: list[str] = []
    session.case_shown.connect(lambda case: shown.append(case.name))
    for by in (1, 1, -3):
        session.step(by)
    qtbot.waitUntil(lambda: session.case.name == "eye3")
    qtbot.wait(100)
    assert shown[-1] == "eye3" and session.image.name == "eye3"
    session.step(1)
    qtbot.waitUntil(lambda: session.case.name == "eye0")


def test_another_folder_takes_the_place_of_the_first_and_leaves_the_users_layers(
    session: Session, qtbot: QtBot, tmp_path: Path
) -> None:
    mine = session.viewer.add_points(np.zeros((1, 2)), name="mine")
    opened(session, qtbot, write_eyes(tmp_path / "eyes", count=2))
    opened(session, qtbot, write_chests(tmp_path / "chests", count=2))
    assert mine in session.viewer.layers
    assert sorted(layer.name for layer in session.viewer.layers) == ["chest0", "mine"]


def test_a_volume_opens_at_its_click_and_knows_its_plane(session: Session, qtbot: QtBot, tmp_path: Path) -> None:
    folder = write_chests(tmp_path / "chests", count=2)
    opened(session, qtbot, folder)
    second = session.dataset["chest1"]
    write_clicks(folder, {second.key: (2.0, 5.0, 5.0)})
    opened(session, qtbot, folder)
    session.show(second)
    qtbot.waitUntil(lambda: session.case.name == "chest1")
    assert session.plane() == second.geometry.point_to_planes((2.0, 5.0, 5.0))[0] == 2
    session.show_plane(0)
    assert session.plane() == 0


def test_what_cannot_be_read_is_said_and_what_is_open_stays(
    session: Session, qtbot: QtBot, tmp_path: Path, complaints: list[str]
) -> None:
    opened(session, qtbot, write_eyes(tmp_path / "eyes"))
    session.open(tmp_path / "nowhere")
    qtbot.waitUntil(lambda: len(complaints) == 1)
    assert "nowhere" in complaints[0] and session.folder == tmp_path / "eyes"
    image = tmp_path / "eyes" / "images" / "eye4.png"
    image.write_bytes(image.read_bytes()[:200])  # a good header, and no more
    session.step(4)
    qtbot.waitUntil(lambda: len(complaints) == 2)
    assert "eye4.png" in complaints[1] and session.case.name == "eye0"
    shutil.rmtree(tmp_path / "eyes")
    session.reload()
    qtbot.waitUntil(lambda: len(complaints) == 3)
    assert str(tmp_path / "eyes") in complaints[2] and session.folder == tmp_path / "eyes"


def test_a_run_is_looked_at_as_soon_as_its_training_ends(session: Session, qtbot: QtBot, tmp_path: Path) -> None:
    folder = write_eyes(tmp_path / "eyes", count=2)
    opened(session, qtbot, folder)
    out = folder / "runs" / "scratch"
    task = session.runner.submit(Finetune(data=folder, out=out))
    assert session.training
    out.mkdir(parents=True)
    for name in ("model.safetensors", "job.json"):
        (out / name).write_text("{}")
    with qtbot.waitSignals([session.runs_changed, session.run_shown]):
        task.tell(Finished(reason="done", out=out))
    assert session.run.path == out and not session.training
    session.show_run(folder / "runs" / "of another day")
    assert session.run is None
    with qtbot.waitSignal(session.runs_changed):
        session.runner.submit(Pretrain(data=(folder,), out=tmp_path / "a.safetensors")).tell(
            Finished(reason="done", out=None)
        )
    assert session.run is None


# the end


class Asked:
    """What the user is asked while the window closes, by us and by napari; each says no until told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_us = self.by_napari = 0
        self.leave = False
        monkeypatch.setattr(QMessageBox, "question", self._question)
        monkeypatch.setattr("napari._qt.qt_main_window.ConfirmCloseDialog", lambda *_, **__: self)

    def _question(self, *_: Any) -> Any:
        self.by_us += 1
        return QMessageBox.StandardButton.Close if self.leave else QMessageBox.StandardButton.Cancel

    def exec_(self) -> Any:
        self.by_napari += 1
        return QDialog.DialogCode.Accepted if self.leave else QDialog.DialogCode.Rejected


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_the_close_button_asks_while_a_training_runs(session: Session, qtbot: QtBot, asked: Asked) -> None:
    window = session.viewer.window._qt_window
    session.viewer.add_points(np.zeros((1, 2)))  # without a layer napari never asks
    task = session.runner.submit(TRAIN)
    press_close(window)
    qtbot.waitUntil(lambda: asked.by_us == 1)
    assert window.isVisible() and not session.closed and asked.by_napari == 0
    task.tell(Finished(reason="done", out=None))
    qtbot.waitUntil(lambda: not session.training)
    press_close(window)
    qtbot.waitUntil(lambda: asked.by_napari == 1)
    qtbot.wait(50)
    assert window.isVisible() and not session.closed and asked.by_us == 1, "napari asks on its own, and may be told no"
    asked.leave = True
    session.runner.submit(TRAIN)
    press_close(window)
    qtbot.waitUntil(lambda: not isalive(window))
    assert session.closed and (asked.by_us, asked.by_napari) == (2, 2)


def test_ctrl_w_asks_too(session: Session, asked: Asked) -> None:
    window = session.viewer.window._qt_window
    session.runner.submit(TRAIN)
    window.close(quit_app=False, confirm_need=True)
    assert asked.by_us == 1 and window.isVisible() and not session.closed
    asked.leave = True
    window.close(quit_app=False, confirm_need=True)
    assert asked.by_us == 2 and session.closed


def test_a_program_that_closes_the_viewer_is_not_asked(session: Session, asked: Asked) -> None:
    session.runner.submit(TRAIN)
    session.viewer.close()
    assert session.closed and (asked.by_us, asked.by_napari) == (0, 0)


def test_one_part_that_fails_keeps_no_other_from_its_end(
    session: Session, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(session.runner, "close", lambda: closed.append("runner"))
    whole = session.painter.close

    def close() -> None:
        whole()
        raise OSError(28, "No space left on device", "mask.png")

    monkeypatch.setattr(session.painter, "close", close)
    session.close()
    session.close()
    assert closed == ["runner"] and len(complaints) == 1 and "mask.png: no space left" in complaints[0]
