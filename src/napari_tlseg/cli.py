"""The command line: one command per job, its flags the job's fields, its output the job's events."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Annotated, Any, Generic, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin make every other program wait

import tyro
from tqdm import tqdm
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, subcommand

from napari_tlseg.data.run import jsonable
from napari_tlseg.engine.jobs import Demo, Finetune, Predict, Pretrain, Score
from napari_tlseg.engine.jobs import Job as AnyJob
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Evaluated, Event, Finished, Noted, Started, Stepped, Visited

Job = TypeVar("Job", bound=AnyJob)


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Job]):
    """A job, and how to tell of it."""

    job: Job
    json: bool = False
    """Print every event as a line of JSON, for other programs."""


Commands = (
    Annotated[Command[Demo], subcommand("demo", description=Demo.__doc__)]
    | Annotated[Command[Pretrain], subcommand("pretrain", description=Pretrain.__doc__)]
    | Annotated[Command[Finetune], subcommand("finetune", description=Finetune.__doc__)]
    | Annotated[Command[Predict], subcommand("predict", description=Predict.__doc__)]
    | Annotated[Command[Score], subcommand("score", description=Score.__doc__)]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 2: something the user gave cannot be used, said in one line; 130: stopped twice."""
    try:
        command = parse(arguments)
        control = Control()
        with _interruptible(control):
            tell = _tell_json if command.json else Teller(control).tell
            for event in command.job.run(control):
                tell(event)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("napari-tlseg: stopped at once\n")
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parse(arguments: Sequence[str] | None = None) -> Command[Any]:
    """The command that the arguments name; help is printed by tyro, an error becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                Commands,
                prog="napari-tlseg",
                description="Segment medical images from few masks: click, pretrain, fine-tune.",
                args=arguments,
                config=(FlagCreatePairsOff, OmitArgPrefixes),
            )
    except SystemExit as end:
        if end.code == 2:
            raise InputError(_one_line(complaint.getvalue())) from None
        raise


def _one_line(box: str) -> str:
    """What tyro says in a frame of several lines, up to its first rule, as one sentence."""
    rows = [re.sub(r"^[│╭╰─\s]+|[│╮╯─\s]+$", "", row) for row in box.splitlines()]
    said = rows[: rows.index("", 1)] if "" in rows[1:] else rows
    return re.sub(r"\s+", " ", " ".join(said)).strip() or "the arguments cannot be understood; see --help"


def _fail(sentence: str) -> int:
    sys.stderr.write(f"napari-tlseg: {' '.join(sentence.split())}\n")
    return 2


@contextlib.contextmanager
def _interruptible(control: Control) -> Iterator[None]:
    """Ctrl-C once asks the job to end with what it has; a second time ends it at once."""

    def ask(signum: int, frame: FrameType | None) -> None:
        if control.stop:
            raise KeyboardInterrupt
        control.stop = True
        tqdm.write(
            "Stopping after this step, what was learned is kept; press Ctrl-C again to stop at once.", sys.stderr
        )

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell_json(event: Event) -> None:
    sys.stdout.write(json.dumps({"event": type(event).__name__, **jsonable(asdict(event))}, allow_nan=False) + "\n")
    sys.stdout.flush()


class Teller:
    """Events as a person reads them: a bar on standard error, sentences on standard output."""

    def __init__(self, control: Control) -> None:
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._shown: dict[str, str] = {}

    def tell(self, event: Event) -> None:
        match event:
            case Started():
                self._bar.close()
                self._shown = {}
                self._bar = tqdm(total=event.total, desc=event.stage, leave=False, dynamic_ncols=True)
            case Stepped():
                self._show(loss=event.loss)
                self._bar.update(event.step - self._bar.n)
            case Visited():
                self._bar.update()
            case Evaluated():
                self._show(**event.scores, **({} if event.drift is None else {"drift": event.drift}))
            case Noted():
                self._write(event.text)
            case Finished():
                self._bar.close()
                for line in finished_lines(event):
                    self._write(line)

    def _show(self, **numbers: float) -> None:
        self._shown |= {name: f"{number:.3g}" for name, number in numbers.items()}
        self._bar.set_postfix(self._shown, refresh=False)

    def _write(self, line: str) -> None:
        tqdm.write(line, sys.stdout)


def finished_lines(event: Finished) -> Iterator[str]:
    """What a person wants to know at the end."""
    ends = {"stopped": "Stopped, as you asked; ", "early": "No further gain on the validation cases; ", "done": ""}
    summary = event.summary
    if event.out is None and event.reason == "stopped":
        yield "Stopped before there was anything to keep; nothing was written."
        return
    if "rows" in summary:
        yield from _table(summary["rows"])
        yield from summary["next"]
        return
    if "masks" in summary:
        yield f"{ends[event.reason]}{summary['masks']} of {summary['cases']} masks are in {event.out}"
    elif "task" in summary:
        yield f"{ends[event.reason]}source after {summary['steps']} steps: {event.out}"
        for part in ("validation", "held_out"):
            yield f"  {part.replace('_', '-')}: " + _localized(summary[part])
    elif "lambda" in summary:
        drift = "" if summary["drift"] is None else f", drift {summary['drift']:.3g}"
        yield f"{ends[event.reason]}λ = {summary['lambda']:g}{drift}, {summary['steps']} steps: {event.out}"
        yield f"  validation: {_scored(summary['validation'])}"
        yield f"  held-out: {_scored(summary)}"
    else:
        for part, scores in summary.items():
            yield f"{ends[event.reason]}{part}: {_scored(scores)}"


def _localized(scores: Mapping[str, Any]) -> str:
    if "error" in scores:
        return (
            f"median error {scores['error']:.1f} px, 95% below {scores['error_p95']:.1f} px ({scores['cases']} cases)"
        )
    return f"Dice {scores['dice']:.3f} ({scores['cases']} cases)" if "dice" in scores else "too few cases to judge"


def _scored(scores: Mapping[str, Any]) -> str:
    if scores["dice_mean"] is None:
        return "too few cases to judge"
    spread = "" if scores["dice_sd"] is None else f" ± {scores['dice_sd']:.3f}"
    precision = "" if scores["precision_mean"] is None else f", precision {scores['precision_mean']:.3f}"
    hd95 = "" if scores["hd95_mean"] is None else f", HD95 {scores['hd95_mean']:.1f} {scores['hd95_unit']}"
    each = (
        ""
        if len(scores["classes"]) < 2
        else f" ({', '.join(f'{name} {dice:.3f}' for name, dice in scores['classes'].items() if dice is not None)})"
    )
    return f"Dice {scores['dice_mean']:.3f}{spread}{each}{precision}{hd95}, {scores['scored']} cases"


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Rows of equal keys, in columns."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value else "0"
    return "–" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
