"""The command line: one command per job, its flags the job's fields, its output the job's events."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from types import FrameType
from typing import Annotated, Any, Generic, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin make every other program wait

import tyro
from tqdm import tqdm
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg, subcommand

from napari_tlseg.data.run import jsonable
from napari_tlseg.data.split import FEW
from napari_tlseg.engine.jobs import Demo, Finetune, Predict, Pretrain, Score
from napari_tlseg.engine.jobs import Job as AnyJob
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Evaluated, Event, Finished, Noted, Reason, Started, Stepped, Visited

tqdm.monitor_interval = 0  # every event moves the bar: it needs no thread to watch it
Job = TypeVar("Job", bound=AnyJob)


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Job]):
    """A job, and how to tell of it."""

    job: Annotated[Job, arg(name="")]
    json: bool = False
    """Print every event as a line of JSON, for other programs."""


Commands = (
    Annotated[Command[Demo], subcommand("demo", description=Demo.__doc__)]
    | Annotated[Command[Pretrain], subcommand("pretrain", description=Pretrain.__doc__)]
    | Annotated[Command[Finetune], subcommand("finetune", description=Finetune.__doc__)]
    | Annotated[Command[Predict], subcommand("predict", description=Predict.__doc__)]
    | Annotated[Command[Score], subcommand("score", description=Score.__doc__)]
)
NAMES = {job.__name__.lower() for job in (Demo, Pretrain, Finetune, Predict, Score)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 2: something the user gave cannot be used, said in one line; 130: stopped twice."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a screen without λ shows ?
    try:
        command = parse(arguments)
        control = Control()
        with _interruptible(control), contextlib.closing(Teller()) as teller:
            tell = _tell_json if command.json else teller.tell
            for event in command.job.run(control):
                tell(event)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("napari-tlseg: stopped at once; what was unfinished is not kept\n")
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parse(arguments: Sequence[str] | None = None) -> Command[Any]:
    """The command that the arguments name; help is printed by tyro, an error becomes one line."""
    complaint = io.StringIO()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                Commands,
                prog="napari-tlseg",
                description="Segment medical images from few masks: click, pretrain, fine-tune.",
                args=given,
                config=(FlagCreatePairsOff, OmitArgPrefixes),
            )
    except SystemExit as end:
        if end.code == 2:
            raise InputError(_one_line(complaint.getvalue(), given[:1])) from None
        raise


def _one_line(box: str, command: Sequence[str] = ()) -> str:
    """What tyro says in a frame of several lines as one sentence: its first part, a suggestion, where the help is.

    In a frame sentences start at the left, names of arguments at the fourth column, and their help at the eighth.
    """
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    rows = [row[2:-1].rstrip() for row in plain.splitlines()[1:]]  # without the title and the frame's sides
    said = next((list(part) for ruled, part in groupby(rows, _is_rule) if not ruled), [])
    sentences = " ".join(row for row in said if row and row[0] != " ").removesuffix(" Expected 1 values.").rstrip(".")
    names = ", ".join(row.strip() for row in said if re.match(" {4}\\S", row))
    sentences = re.sub(r"Error parsing (\S+): .*?\[?('[^']*')\]?.*", r"\1 cannot be \2", sentences)
    perhaps = re.search(r"Perhaps you meant:\s+(\S+)", "\n".join(rows))
    known = " ".join(["napari-tlseg", *(name for name in command if name in NAMES), "--help"])
    parts = [f"{sentences} {names}".strip(), f"perhaps you meant {perhaps[1]}" if perhaps else "", f"see {known}"]
    return "; ".join(filter(None, parts))


def _is_rule(row: str) -> bool:
    return bool(row) and set(row) <= set("─-")


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
            "Stopping after this step; what is done so far is kept. Press Ctrl-C again to stop at once.", sys.stderr
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
    """Events as a person reads them: a bar on standard error where that is a screen, sentences on standard output."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._shown: dict[str, str] = {}
        self._said: set[str] = set()

    def close(self) -> None:
        """Wipe the bar off the screen."""
        self._bar.close()

    def tell(self, event: Event) -> None:
        match event:
            case Started():
                self._bar.close()
                self._shown = {}
                kind = {"leave": False, "dynamic_ncols": True, "miniters": 1, "disable": None}
                self._bar = tqdm(total=event.total, desc=event.stage, **kind)
            case Stepped():
                self._show(loss=event.loss)
                self._bar.update(event.step - self._bar.n)
            case Visited():
                self._bar.update()
            case Evaluated():
                self._show(**event.scores, **({} if event.drift is None else {"drift": event.drift}))
            case Noted() if event.text not in self._said:  # the stages of a demo say the same of the same folder
                self._said.add(event.text)
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
    summary = event.summary
    if event.reason == "stopped" and event.out is None and not summary:
        yield "Stopped, as you asked, before there was anything to keep; nothing was written."
        return
    if event.reason != "done":
        yield ENDS[event.reason]
    if "rows" in summary:
        yield from _demo_lines(event)
    elif "masks" in summary:
        yield f"{summary['masks']} of {summary['cases']} masks are in {event.out}"
    elif "task" in summary:
        learned = "clicks" if summary["task"] == "localize" else "masks"
        yield f"Trained {_counted(summary['steps'], 'step')} on {learned}. The source is in {event.out}"
        yield from (f"  {part}: {_localized(summary[key])}" for part, key in PARTS.items())
    elif "lambda" in summary:
        yield f"Trained {_counted(summary['steps'], 'step')} {_origin(summary)}. The model is in {event.out}"
        yield f"  validation: {_scored(summary['validation'], event.reason)}"
        yield f"  held-out: {_scored(summary, event.reason)}"
    else:
        yield from (f"{part} cases: {_scored(summary[part], event.reason)}" for part in sorted(summary, key=_place))
        if event.out is not None:
            yield f"The scores of each case are in {event.out}"


ENDS = {"stopped": "Stopped, as you asked.", "early": "Ended early: no further gain on the validation cases."}
PARTS = {"validation": "validation", "held-out": "held_out"}


def _demo_lines(event: Finished) -> Iterator[str]:
    if not event.summary["rows"]:
        yield f"No fine-tuning was through; what was made before is in {event.out}"
    else:
        yield from _table(event.summary["rows"])
        yield from event.summary["next"]


def _origin(summary: Mapping[str, Any]) -> str:
    if summary["drift"] is None:
        return "from scratch"
    return f"from {summary['source']} at λ = {_number(summary['lambda'])}, drift {summary['drift']:.3g}"


def _place(part: str) -> tuple[bool, str]:
    """Training cases last: their scores flatter."""
    return part == "training", part


def _localized(scores: Mapping[str, Any]) -> str:
    if "error" in scores:
        distances = f"median {scores['error']:.1f} px from the click, 95% within {scores['error_p95']:.1f} px"
        return f"{distances}; {_judged(scores['cases'])}"
    return f"Dice {scores['dice']:.3f}; {_judged(scores['cases'])}" if "dice" in scores else "no case to judge by"


def _scored(scores: Mapping[str, Any], reason: Reason) -> str:
    seen = f"{_counted(len(scores['seen']), 'case')} that the source saw left out" if scores["seen"] else ""
    if scores["dice_mean"] is None:
        why = "both masks are empty in every case" if scores["undefined"] else "no case to judge by"
        return "not scored" if reason == "stopped" else seen or why
    spread = "" if scores["dice_sd"] is None else f" ± {scores['dice_sd']:.3f}"
    classes = [f"{name} {dice:.3f}" for name, dice in scores["classes"].items() if dice is not None]
    each = f" ({', '.join(classes)})" if len(scores["classes"]) > 1 else ""
    precision = "" if scores["precision_mean"] is None else f", precision {scores['precision_mean']:.3f}"
    hd95 = "" if scores["hd95_mean"] is None else f", HD95 {scores['hd95_mean']:.1f} {scores['hd95_unit']}"
    return "; ".join(
        filter(
            None, (f"Dice {scores['dice_mean']:.3f}{spread}{each}{precision}{hd95}", _judged(scores["scored"]), seen)
        )
    )


def _judged(cases: int) -> str:
    return _counted(cases, "case") + (", too few to judge" if cases < FEW else "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Rows of equal keys, in columns."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    return "–" if value is None else str(value)


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
