"""The jobs as functions: an interrupt keeps what was learned, the second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from napari_tlseg import journey
from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Control, Event, Finished, Stepped
from tiny import write_eyes


@dataclass(frozen=True, kw_only=True)
class Interrupted(Finetune):
    """A fine-tuning with Ctrl-C at its third step."""

    times: int = 1

    def _work(self, control: Control) -> Iterator[Event]:
        for event in super()._work(control):
            yield event
            if isinstance(event, Stepped) and event.step == 3:
                for _ in range(self.times):
                    os.kill(os.getpid(), signal.SIGINT)


def interrupted(folder: Path, times: int) -> Job:
    eyes = write_eyes(folder / "eyes")
    return Interrupted(data=eyes, out=folder / "run", times=times, steps=500, size=32, batch=2, device="cpu")


def test_an_interrupt_keeps_what_was_learned(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    last = journey.finish(interrupted(tmp_path, 1))
    assert last.reason == "stopped" and last.summary["steps"] <= 4
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        journey.finish(interrupted(tmp_path, 2))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_runs_in_any_thread(tmp_path: Path) -> None:
    eyes, found = write_eyes(tmp_path / "eyes"), list[Finished]()
    work = threading.Thread(target=lambda: found.append(journey.score(eyes / "masks", eyes)))
    work.start()
    work.join()
    assert found[0].summary["all"]["dice_mean"] == 1
