"""Clicks per minute with and without help: a scripted person at a real window, real photographs, stated times.

The mouse goes where a table of clicks says that the target lies. What a person takes is stated (`--look`, `--accept`,
`--correct`), and waited for, so that the worker learns meanwhile as it would; what the program takes is measured: from
the key or the mouse button to the next image, worker and all. A proposal is accepted by Enter where it lies within half
the target's radius of the true place, else the place is clicked. How far off accepted centres are is in pixels.

    xvfb-run -s "-screen 0 1280x1024x24" python benchmarks/clicks.py --clicks fundus_hei_med --count 60
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NAPARI_CONFIG"] = ""
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "gui"))

import numpy as np
import tyro
from hands import Hands
from measure import write_record
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from window import copy

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.gui.session import Session


@dataclass(frozen=True, kw_only=True)
class Settings:
    clicks: Path
    """A dataset folder of photographs with clicks.csv: where the targets are."""
    count: int = 60
    """Photographs to click."""
    look: float = 2.0
    """Seconds in which a person finds the target anew and clicks it."""
    accept: float = 0.8
    """Seconds in which a person sees that a proposal is good, and presses Enter."""
    correct: float = 2.5
    """Seconds in which a person sees that a proposal is wrong, and clicks the target."""
    radius: float = 75.0
    """Of the target, pixels of the image."""
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """What happened at one image."""

    kind: str
    """clicked (there was no proposal), accepted or corrected."""
    human: float
    """Seconds, as stated."""
    system: float
    """Seconds from the key or the button to the next image."""
    error: float | None
    """Of the proposal, pixels."""
    unsure: bool = False


def main(settings: Settings) -> None:
    """Without help first, then with it, each in a folder and a window of its own."""
    results = {name: told(sitting(settings, helped=helped)) for name, helped in (("without", False), ("with", True))}
    ratio = results["with"]["clicks per minute"] / results["without"]["clicks per minute"]
    results["ratio"] = round(ratio, 2)
    print(json.dumps(results, indent=1))
    write_record(settings.out, settings, results)


def sitting(settings: Settings, *, helped: bool) -> list[Round]:
    """Click all images of a copy of the folder."""
    import napari

    from napari_tlseg.gui.workbench import Workbench

    with tempfile.TemporaryDirectory(prefix="clicks-") as name:
        folder = Path(name, "data")
        copy(settings.clicks, folder, settings.count)
        places = {case.name: case.click for case in read_dataset(settings.clicks)}
        viewer = napari.Viewer(show=True)
        bench: Any = Workbench(viewer)
        viewer.window.add_dock_widget(bench)
        session = bench.widget(0).session
        bench.widget(0).clicking.proposals.assistant.want(helped)
        session.open(folder)
        wait(lambda: session.case is not None and session.runner.greeting is not None)
        person = Person(session, Hands(viewer), settings, places)
        rounds = [person.go_on() for _ in range(settings.count)]
        viewer.close()
    return rounds


@dataclass(frozen=True)
class Person:
    """Looks, then presses Enter or the button of the mouse."""

    session: Session
    hands: Hands
    settings: Settings
    places: dict[str, Any]

    def go_on(self) -> Round:
        case, clicking = self.session.case, self._clicking
        assert case is not None and self.session.clicks is not None
        y, x = self.places[case.name]
        guess = clicking.proposal
        error = None if guess is None else math.dist(guess.point, (y, x))
        good = error is not None and error <= self.settings.radius / 2
        kind = "clicked" if guess is None else "accepted" if good else "corrected"
        human = {"clicked": self.settings.look, "accepted": self.settings.accept, "corrected": self.settings.correct}[
            kind
        ]
        QTest.qWait(round(1000 * human))
        began = time.monotonic()
        if kind == "accepted":
            self.hands.press(Qt.Key.Key_Return)
        else:
            self.hands.click(self.session.image, y, x)
        last = len(self.session.clicks) == self.settings.count
        wait(lambda: last or self.session.case is not case)
        system = time.monotonic() - began
        unsure = guess is not None and guess.unsure
        return Round(kind=kind, human=human, system=system, error=error, unsure=unsure)

    @property
    def _clicking(self) -> Any:
        from napari_tlseg.gui.click.clicking import Clicking

        return Clicking.of(self.session)


def told(rounds: list[Round]) -> dict[str, Any]:
    """The rounds as figures."""
    system = 1000 * np.array([each.system for each in rounds])
    accepted = [each.error for each in rounds if each.kind == "accepted" and each.error is not None]
    wrong = [each for each in rounds if each.kind == "corrected"]
    first = next((number for number, each in enumerate(rounds) if each.error is not None), None)
    return {
        "clicks per minute": pace(rounds),
        "from the first proposal on": pace(rounds[first:]) if first is not None else None,
        "kinds": {kind: sum(each.kind == kind for each in rounds) for kind in ("clicked", "accepted", "corrected")},
        "clicks before the first proposal": first,
        "system, ms": {"median": round(float(np.median(system))), "p95": round(float(np.percentile(system, 95)))},
        "accepted, px off": _spread(accepted),
        "wrong and unsure": f"{sum(each.unsure for each in wrong)} of {len(wrong)}",
        "right and unsure": f"{sum(each.unsure for each in rounds if each.kind == 'accepted')} of {len(accepted)}",
    }


def pace(rounds: list[Round]) -> float:
    """Clicks per minute."""
    return round(60 * len(rounds) / sum(each.human + each.system for each in rounds), 1)


def _spread(errors: list[float]) -> dict[str, float]:
    if not errors:
        return {}
    return {"median": round(float(np.median(errors)), 1), "p95": round(float(np.percentile(errors, 95)), 1)}


def wait(holds: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        QTest.qWait(1)


if __name__ == "__main__":
    main(tyro.cli(Settings))
