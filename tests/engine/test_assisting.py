"""A localizer that learns while someone clicks: what it proposes, when it learns, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.engine import assisting
from napari_tlseg.engine.jobs import Assist
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Proposed, Started, Stepped
from tiny import write_chests, write_eyes

COUNT = 14


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Photographs, all clicked; `click` takes clicks away."""
    return write_eyes(tmp_path / "eyes", COUNT)


def click(eyes: Path, truth: dict[str, Case], *names: str) -> None:
    write_clicks(eyes, {truth[name].key: truth[name].click or () for name in names})


def until(events: Iterator[Event], kind: type[Event]) -> list[Event]:
    """The events up to the first of a kind."""
    found: list[Event] = []
    for event in events:
        found.append(event)
        if isinstance(event, kind):
            break
    return found


def test_it_learns_from_a_few_clicks_and_goes_on_from_there(eyes: Path) -> None:
    truth = {case.name: case for case in read_dataset(eyes)}
    names, control, threads = list(truth), Control(), torch.get_num_threads()
    click(eyes, truth, *names[:8])
    events = Assist(data=eyes, device="cpu").run(control)
    first = until(events, Proposed)
    assert first[0] == Started(stage="train", total=50)
    proposed = [first[-1], *(next(events) for _ in range(COUNT - 9))]
    assert [(each.case, each.clicks) for each in proposed] == [(name, 8) for name in names[8:]]
    errors = [np.hypot(*np.subtract(each.point, truth[each.case].click)) for each in proposed]
    assert np.median(errors) < 6, "a bright disc of 64 pixels' width"
    assert all(each.unsure == (each.doubt > 0.15 * 64) for each in proposed)
    click(eyes, truth, *names[:11])
    control.wake()
    click(eyes, truth, *names[:12])
    later = until(events, Proposed)
    assert later[0] == Started(stage="train", total=20), "four more clicks"
    assert (later[-1].case, later[-1].clicks) == (names[12], 12), "of those that nobody looked at"
    control.stop = True
    assert until(events, Finished)[-1] == Finished(reason="stopped", out=None)
    assert torch.get_num_threads() == threads
    assert not (eyes / "split.csv").exists() and not (eyes / "sources").exists(), "nothing is written"
    again = until(Assist(data=eyes, device="cpu").run(Control()), Proposed)
    assert [type(each) for each in again] == [Proposed], "what was stopped goes on where it was"


def test_a_stop_in_the_midst_of_learning_counts_for_nothing(eyes: Path) -> None:
    control = Control()
    write_clicks(eyes, {case.key: case.click or () for case in read_dataset(eyes).cases[:9]})
    events = Assist(data=eyes, device="cpu").run(control)
    until(events, Stepped)
    control.stop = True
    assert [type(event) for event in events] == [Finished]
    again = Assist(data=eyes, device="cpu").run(Control())
    assert next(again) == Started(stage="train", total=50)
    again.close()  # type: ignore[attr-defined]


def test_too_few_clicks_teach_nothing(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()
    cases = read_dataset(eyes).cases
    write_clicks(eyes, {case.key: case.click or () for case in cases[:7]} | {cases[8].key: ()})
    monkeypatch.setattr(control, "wait", lambda: setattr(control, "stop", True), raising=False)
    assert list(Assist(data=eyes, device="cpu").run(control)) == [Finished(reason="stopped", out=None)]


def test_an_image_that_cannot_be_read_is_passed_over(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assisting, "STEPS", 2)
    cases = read_dataset(eyes).cases
    write_clicks(eyes, {case.key: case.click or () for case in cases[:9]})
    events = Assist(data=eyes, device="cpu", unreadable="skip").run(Control())
    until(events, Started)
    whole = cases[10].image.read_bytes()
    cases[10].image.write_bytes(whole[: len(whole) // 2])
    until(events, Proposed)
    assert [event.case for event in (next(events) for _ in range(3))] == [cases[n].name for n in (11, 12, 13)]
    events.close()  # type: ignore[attr-defined]


def test_volumes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds volumes, whose slice no localizer finds; click them without help"):
        list(Assist(data=write_chests(tmp_path / "chests", 1)).run())


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of one test nothing is learned for the next; small images for the sake of speed."""
    monkeypatch.setattr(assisting, "SIZE", 32)
    yield
    assisting._learner.cache_clear()
