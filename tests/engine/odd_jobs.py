"""Jobs that no user has, for a worker that finds this file on its path."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from napari_tlseg.engine.jobs import Job
from napari_tlseg.events import Control, Event, Finished, Noted, Stepped


@dataclass(frozen=True, kw_only=True)
class Count(Job):
    """Steps of a hundredth of a second, until it is stopped."""

    steps: int = 10**6

    def _work(self, control: Control) -> Iterator[Event]:
        step = 0
        while step < self.steps and not control.stop:
            step += 1
            time.sleep(0.01)
            yield Stepped(step=step, loss=0.0, strength=control.strength)
        yield Finished(reason="stopped" if control.stop else "done", out=None, summary={"steps": step})


@dataclass(frozen=True, kw_only=True)
class Saving(Count):
    """Saves at its end, as a training does."""

    out: Path

    def _work(self, control: Control) -> Iterator[Event]:
        yield from super()._work(control)
        self.out.touch()


@dataclass(frozen=True, kw_only=True)
class Raise(Job):
    """Fails after an event."""

    error: BaseException

    def _work(self, control: Control) -> Iterator[Event]:
        yield Noted(text="so far, so good")
        raise self.error


@dataclass(frozen=True, kw_only=True)
class Deaf(Job):
    """Hears no stop."""

    def _work(self, control: Control) -> Iterator[Event]:
        yield Noted(text="asleep")
        time.sleep(300)


@dataclass(frozen=True, kw_only=True)
class Chatter(Job):
    """Prints in every way there is, and reads."""

    def _work(self, control: Control) -> Iterator[Event]:
        sys.stdout.write("through Python\n")
        cast("Any", sys.__stdout__).write("through Python's own\n")
        os.write(1, b"through the descriptor\n" * 1000)
        subprocess.run([sys.executable, "-c", "import sys; print('through a child', sys.stdin.read())"], check=True)
        yield Noted(text=f"read {sys.stdin.read()!r}")
        yield Finished(reason="done", out=None)


@dataclass(frozen=True, kw_only=True)
class Inside(Job):
    """Says how the worker has set itself up."""

    def _work(self, control: Control) -> Iterator[Event]:
        import torch

        yield Noted(text=f"{os.environ['OMP_WAIT_POLICY']}, {(torch.tensor([1e-38]) * 0.1).item()}")
        yield Finished(reason="done", out=None)


@dataclass(frozen=True, kw_only=True)
class Silent(Job):
    """Ends without saying so."""

    def _work(self, control: Control) -> Iterator[Event]:
        yield Noted(text="that was all")


@dataclass(frozen=True, kw_only=True)
class Unsayable(Job):
    """Has an event that cannot be pickled, and notes down that it was closed."""

    out: Path

    def _work(self, control: Control) -> Iterator[Event]:
        try:
            yield Finished(reason="done", out=None, summary={"function": lambda: None})
            yield Noted(text=cast("str", lambda: None))
        finally:
            self.out.write_text("closed")


class Unreadable(Count):
    """Can be pickled, but not be read."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return _refuse, ("no such job",)


def _refuse(text: str) -> None:
    raise LookupError(text)
