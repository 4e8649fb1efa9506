"""The jobs as functions, for a notebook: each runs to its end and returns what it has to say."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from napari_tlseg.engine.jobs import Job, Locate, Predict, Score
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.events import Control, Finished
from napari_tlseg.options import Origin
from napari_tlseg.studies.jobs import Crossval, Efficiency, LambdaPath
from napari_tlseg.studies.teaching import Student


def pretrain(data: Path | str | Iterable[Path | str], out: Path | str, **options: Any) -> Finished:
    """Teach an encoder on clicks, or on masks, also of several datasets; `options` are the fields of `Pretrain`."""
    return finish(Pretrain(data=_paths(data), out=Path(out), **options))


def finetune(data: Path | str, out: Path | str, source: Path | str = "none", **options: Any) -> Finished:
    """Train on few masks, anchored to `source`; `options` are the fields of `Finetune`, `strength` is λ."""
    focus = options.pop("focus", "none")
    options["focus"] = focus if focus == "none" else Path(focus)
    return finish(Finetune(data=Path(data), out=Path(out), source=_origin(source), **options))


def path(data: Path | str, out: Path | str, source: Path | str, **options: Any) -> Finished:
    """Train at every λ from ∞ to 0, each going on from the last; `options` are the fields of `LambdaPath`."""
    return finish(LambdaPath(data=Path(data), out=Path(out), source=Path(source), **options))


def crossval(data: Path | str, out: Path | str, source: Path | str, **options: Any) -> Finished:
    """Recommend λ by cross-validation; `options` are the fields of `Crossval`."""
    return finish(Crossval(data=Path(data), out=Path(out), source=Path(source), **options))


def efficiency(data: Path | str, out: Path | str, sources: Iterable[Path | str], **options: Any) -> Finished:
    """Dice against the number of masks for each source; `options` are the fields of `Efficiency`."""
    return finish(Efficiency(data=Path(data), out=Path(out), sources=tuple(map(str, sources)), **options))


def student(data: Path | str, unlabelled: Path | str, out: Path | str, **options: Any) -> Finished:
    """Learn from images without masks too, by noisy student; `options` are the fields of `Student`."""
    for name in options.keys() & {"source", "teacher"}:
        options[name] = None if options[name] is None else _origin(options[name])
    return finish(Student(data=Path(data), unlabelled=Path(unlabelled), out=Path(out), **options))


def predict(data: Path | str | Iterable[Path | str], model: Path | str, out: Path | str, **options: Any) -> Finished:
    """Write a mask for every image: of a folder, a file, or several; `options` are the fields of `Predict`."""
    return finish(Predict(data=_paths(data), model=Path(model), out=Path(out), **options))


def locate(data: Path | str, model: Path | str, out: Path | str, **options: Any) -> Finished:
    """Write where a localizer sees the target's centre in each image; `options` are the fields of `Locate`."""
    return finish(Locate(data=Path(data), model=Path(model), out=Path(out), **options))


def score(predictions: Path | str, data: Path | str, **options: Any) -> Finished:
    """Compare a folder of masks with the true ones; `options` are the fields of `Score`."""
    return finish(Score(predictions=Path(predictions), data=Path(data), **options))


def _origin(given: Path | str) -> Origin | Path:
    """A word such as `imagenet`, or else a file."""
    origin: Origin | Path = next((word for word in get_args(Origin) if word == given), Path(given))
    return origin


def _paths(given: Path | str | Iterable[Path | str]) -> tuple[Path, ...]:
    return tuple(map(Path, (given,) if isinstance(given, Path | str) else given))


def finish(job: Job) -> Finished:
    """Run a job to its end and return its last event: `.out` is what it made, `.summary` what it found.

    An interrupt (Ctrl-C, a notebook's stop button) ends it with what was learned so far, a second one at once.
    """
    control = Control()
    with interruptible(control):
        *_, last = job.run(control)
    if not isinstance(last, Finished):
        raise RuntimeError(f"{type(job).__name__} ended without saying so")
    return last


@contextmanager
def interruptible(control: Control, say: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Ctrl-C once asks the job to end with what it has, and calls `say`; a second time ends it at once."""

    def ask(signum: int, frame: FrameType | None) -> None:
        if control.stop:
            raise KeyboardInterrupt
        control.stop = True
        say()

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
