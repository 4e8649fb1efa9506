"""The command line: one command per job, its flags the job's fields, its output the job's events."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile, groupby
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin make every other program wait

import tyro
from tqdm import tqdm
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg, subcommand

from napari_tlseg.engine.jobs import Demo, Explain, Locate, Predict, Score, Sources
from napari_tlseg.engine.jobs import Job as AnyJob
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control
from napari_tlseg.journey import interruptible
from napari_tlseg.studies.jobs import Crossval, Disagree, Efficiency, LambdaPath, Report
from napari_tlseg.studies.teaching import Student
from napari_tlseg.telling import Teller, tell_json

Job = TypeVar("Job", bound=AnyJob)


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Job]):
    """A job, and how to tell of it."""

    job: Annotated[Job, arg(name="")]
    json: bool = False
    """Print every event as a line of JSON, for other programs."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Open napari with the workbench: click, train, review, export."""

    data: Annotated[Positional[Path | None], arg(metavar="DATA", help_behavior_hint="")] = None
    """A folder of images to begin with."""

    def run(self) -> None:
        """Until the window is closed."""
        if self.data is not None and not self.data.is_dir():
            raise InputError("there is no such folder", self.data, "name a folder of images")
        try:
            from napari_tlseg.gui.workbench import launch
        except ImportError as error:
            raise InputError(f"napari cannot open a window ({error})", remedy=INSTALL) from None
        launch(self.data)


Commands = (
    Annotated[Command[Demo], subcommand("demo", description=Demo.__doc__)]
    | Annotated[Command[Pretrain], subcommand("pretrain", description=Pretrain.__doc__)]
    | Annotated[Command[Finetune], subcommand("finetune", description=Finetune.__doc__)]
    | Annotated[Command[LambdaPath], subcommand("path", description=LambdaPath.__doc__)]
    | Annotated[Command[Crossval], subcommand("crossval", description=Crossval.__doc__)]
    | Annotated[Command[Efficiency], subcommand("efficiency", description=Efficiency.__doc__)]
    | Annotated[Command[Disagree], subcommand("disagree", description=Disagree.__doc__)]
    | Annotated[Command[Student], subcommand("student", description=Student.__doc__)]
    | Annotated[Command[Report], subcommand("report", description=Report.__doc__)]
    | Annotated[Command[Predict], subcommand("predict", description=Predict.__doc__)]
    | Annotated[Command[Locate], subcommand("locate", description=Locate.__doc__)]
    | Annotated[Command[Score], subcommand("score", description=Score.__doc__)]
    | Annotated[Command[Explain], subcommand("explain", description=Explain.__doc__)]
    | Annotated[Command[Sources], subcommand("sources", description=Sources.__doc__)]
    | Annotated[Launch, subcommand("launch", description=Launch.__doc__)]
)
NAMES = [get_args(each)[1].name for each in get_args(Commands)]
MORE = "[...]"
"""What tyro says where an option has more owners than it names."""
INSTALL = "pip install 'napari-tlseg[all]' brings what a window needs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 2: something the user gave cannot be used, said in one line; 130: stopped twice."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a screen without λ shows ?
    try:
        command = parse(arguments)
        if isinstance(command, Launch):
            command.run()
            return 0
        from napari_tlseg.learn.device import denormals_flushed  # imports torch, which help does not need

        control = Control()
        with denormals_flushed(), interruptible(control, _say_stopping), contextlib.closing(Teller()) as teller:
            tell = tell_json if command.json else teller.tell
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


def parse(arguments: Sequence[str] | None = None) -> Command[Any] | Launch:
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
            raise InputError(_one_line(complaint.getvalue(), given)) from None
        raise


def _one_line(box: str, given: Sequence[str] = ()) -> str:
    """What tyro says in a frame of several lines as one sentence: its first part, a suggestion, where the help is.

    In a frame sentences start at the left, names of arguments at the fourth column, and their help at the eighth.
    """
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    rows = [row[2:-1].rstrip() for row in plain.splitlines()[1:]]  # without the title and the frame's sides
    said = next((list(part) for ruled, part in groupby(rows, _is_rule) if not ruled), [])
    sentences = " ".join(row for row in said if row and row[0] != " ").removesuffix(" Expected 1 values.").rstrip(".")
    names = ", ".join(row.strip() for row in said if re.match(" {4}\\S", row))
    sentences = re.sub(r"Error parsing (\S+): .*?\[?('[^']*')\]?.*", r"\1 cannot be \2", sentences)
    command = next((name for name in given[:1] if name in NAMES), "")
    if not command:  # the frame breaks a long list without its comma
        sentences = re.sub(r"one of \{.*\}", f"one of {', '.join(NAMES)}", sentences)
    parts = [f"{sentences} {names}".strip()]
    suggested, words = _suggested(rows), dict.fromkeys(word.partition("=")[0] for word in given)
    foreign = [name for name in words if command not in suggested.get(name, [command])]
    if foreign:
        those = ", ".join(f"no {name} (an option of {', '.join(suggested[name])})" for name in foreign)
        parts = [f"{command or 'napari-tlseg'} has {those}"]
    elif near := next((name for name, owners in suggested.items() if command in owners or not owners), ""):
        parts.append(f"perhaps you meant {near}")
    return "; ".join([*parts, " ".join(filter(None, ["see napari-tlseg", command, "--help"]))])


def _suggested(rows: Iterable[str]) -> dict[str, list[str]]:
    """The options that tyro suggests, each with the commands that have it; of a command alone it does not say."""
    found: dict[str, list[str]] = {}
    owners: list[str] = []
    for row in dropwhile(lambda row: not re.match("Perhaps you meant|Arguments similar", row), rows):
        if row == f"    {MORE}":
            owners.append("…")
        elif option := re.match(r" {4}(\S+)", row):
            owners = found.setdefault(option[1], [])
        elif owner := re.match(r" {8}in napari-tlseg (\w+) --help", row):
            owners.append(owner[1])
    return found


def _is_rule(row: str) -> bool:
    return bool(row) and set(row) <= set("─-")


def _fail(sentence: str) -> int:
    sys.stderr.write(f"napari-tlseg: {' '.join(sentence.split())}\n")
    return 2


def _say_stopping() -> None:
    tqdm.write("Stopping after this step; what is done so far is kept. Press Ctrl-C again to stop at once.", sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
