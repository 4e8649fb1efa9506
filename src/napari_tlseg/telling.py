"""The events of a job in words: for a person a bar, sentences and tables, for a program lines of JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from tqdm import tqdm

from napari_tlseg.data.card import LEARNED
from napari_tlseg.data.run import jsonable
from napari_tlseg.data.split import FEW
from napari_tlseg.events import Evaluated, Event, Finished, Noted, Reason, Started, Stepped, Visited

tqdm.monitor_interval = 0  # every event moves the bar: it needs no thread to watch it


def tell_json(event: Event) -> None:
    """A line of JSON, for other programs; pictures are left out."""
    facts = {name: value for name, value in asdict(event).items() if not isinstance(value, np.ndarray)}
    sys.stdout.write(json.dumps({"event": type(event).__name__, **jsonable(facts)}, allow_nan=False) + "\n")
    sys.stdout.flush()


class Teller:
    """Events as a person reads them: sentences on standard output, and on standard error how far it is.

    That is a bar where it is a screen, else, as in a log, a line for each look at the validation cases.
    """

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
                self._bar = tqdm(
                    desc=event.stage, total=event.total, leave=False, dynamic_ncols=True, miniters=1, disable=None
                )
            case Stepped():
                self._show(loss=event.loss)
                self._bar.update(event.step - self._bar.n)
            case Visited():
                self._bar.update()
            case Evaluated():
                means = {name: score for name, score in event.scores.items() if " " not in name}  # of tasks and labels
                self._show(**means, **({} if event.drift is None else {"drift": event.drift}))
                if self._bar.disable:
                    self._log(event)
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

    def _log(self, event: Evaluated) -> None:
        numbers = ", ".join(f"{name} {number}" for name, number in self._shown.items())
        kept = ", kept" if event.kept else ""
        sys.stderr.write(f"step {event.step} of {self._bar.total}: {numbers}{kept}\n")
        sys.stderr.flush()

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
    elif "explained" in summary:
        yield from _table(summary["explained"])
        if event.out is not None:
            yield f"The picture is in {event.out}"
    elif "sources" in summary:
        rows = [source["row"] for source in summary["sources"]]
        yield from _table(rows) if rows else ["No source is there: pretrain makes one."]
    elif "masks" in summary:
        yield f"{summary['masks']} of {summary['cases']} masks are in {event.out}"
    elif "centres" in summary:
        yield f"{summary['centres']} of {summary['cases']} centres are in {event.out}"
    elif "task" in summary:
        learned = LEARNED[summary["task"]]
        yield f"Trained {_counted(summary['steps'], 'step')} on {learned}. The source is in {event.out}"
        yield from (f"  {part}: {_localized(summary[key])}" for part, key in PARTS.items())
    elif "figures" in summary:
        yield from (f"Drawn: {figure}, and as .svg" for figure in summary["figures"])
        yield f"The page is {event.out}"
    elif "disagreement" in summary:
        yield from _disagreement_lines(event)
    elif "trials" in summary:
        yield from _table([_study_row(row) for row in summary.get("arms") or summary["efficiency"]])
        yield f"{summary['trials']} of {_counted(summary['of'], 'trial')} are in {event.out}; the same command goes on"
        yield from filter(None, [summary.get("words")])
    elif "path" in summary:
        yield from _table([_path_row(stage) for stage in summary["path"]])
        yield f"The models are in {event.out}; its own is that at λ = {_number(summary['lambda'])}"
        yield f"  held-out: {_scored(summary, event.reason)}"
    elif "rounds" in summary:
        yield from _table([_round_row(each) for each in summary["rounds"]])
        yield f"The model is that of the last round, in {event.out}; the same command with more --rounds goes on"
        yield f"  held-out: {_scored(summary, event.reason)}"
    elif "lambda" in summary:
        yield f"Trained {_counted(summary['steps'], 'step')} {_origin(summary)}. The model is in {event.out}"
        yield f"  validation: {_scored(summary['validation'], event.reason, 'counted all the same')}"
        yield f"  held-out: {_scored(summary, event.reason)}"
    else:
        yield from (f"{part} cases: {_scored(summary[part], event.reason)}" for part in sorted(summary, key=_place))
        if event.out is not None:
            yield f"The scores of each case are in {event.out}"


ENDS = {"stopped": "Stopped, as you asked.", "early": "Ended early: no further gain on the validation cases."}
MOST = 10
"""Lines of a table that is read from its top."""
MEANS = {"auc": "AUC", "f1": "F1", "precision": "precision", "recall": "recall"}
PARTS = {"validation": "validation", "held-out": "held_out"}


def _disagreement_lines(event: Finished) -> Iterator[str]:
    found = event.summary["disagreement"]
    if found:
        yield from _table([{"case": name, "λ disagree": value} for name, value in list(found.items())[:MOST]])
    if len(found) > MOST:
        yield f"… and {len(found) - MOST} more"
    yield f"All are in {event.out}, the maps beside it"
    if event.summary["next"]:
        yield f"The next mask to draw: {event.summary['next']}"


def _demo_lines(event: Finished) -> Iterator[str]:
    if not event.summary["rows"]:
        yield f"No fine-tuning was through; what was made before is in {event.out}"
    else:
        yield from _table(event.summary["rows"])
        yield from event.summary["next"]


def _origin(summary: Mapping[str, Any]) -> str:
    if summary["drift"] is None:
        return "from scratch" if summary["source"] == "none" else f"from the mean and variance of {summary['source']}"
    moved = f"its encoder moved by {summary['drift']:.1%} (drift {summary['drift']:.3g})"
    return f"from {summary['source']} at λ = {_number(summary['lambda'])}; {moved}"


def _study_row(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"lambda": "λ", "dice_mean": "Dice", "dice_se": "± SE", "precision_mean": "precision"}
    shown |= {"p_against_0": "p to λ = 0"}
    named = {shown.get(key, key): value for key, value in row.items()}
    return named | ({"λ": "no source"} if "lambda" in row and row["lambda"] is None else {})


def _path_row(stage: Mapping[str, Any]) -> dict[str, Any]:
    scores = stage["scores"]
    row = {"λ": stage["strength"], "drift": stage["drift"], "validation Dice": scores["dice_mean"]}
    return row | {"± SD": scores["dice_sd"], "precision": scores["precision_mean"], "cases": scores["scored"]}


def _round_row(each: Mapping[str, Any]) -> dict[str, Any]:
    pseudo = each["pseudo"] or {}
    row = {"round": each["round"], "pseudo-labels": pseudo.get("images", 0), "accepted": pseudo.get("accepted", 0)}
    scores = {"validation Dice": each["validation_dice_mean"], "± SD": each["validation_dice_sd"]}
    return row | scores | {"cases": each["validation_scored"]}


def _place(part: str) -> tuple[bool, str]:
    """Training cases last: their scores flatter."""
    return part == "training", part


def _localized(scores: Mapping[str, Any]) -> str:
    if "error" in scores:
        distances = f"median {scores['error']:.1f} px from the click, 95% within {scores['error_p95']:.1f} px"
        return f"{distances}; {_judged(scores['cases'])}"
    if "auc" in scores:
        means = (f"{name} {scores[key]:.3f}" for key, name in MEANS.items() if key in scores)
        return f"{', '.join(means)}; {_judged(scores['cases'])}"
    if "dice" not in scores:
        return "no case to judge by"
    tasks = [f"{key.removeprefix('dice ')} {dice:.3f}" for key, dice in scores.items() if key.startswith("dice ")]
    each = f" ({', '.join(tasks)})" if tasks else ""
    return f"Dice {scores['dice']:.3f}{each}; {_judged(scores['cases'])}"


def _scored(scores: Mapping[str, Any], reason: Reason, though: str = "left out") -> str:
    """Means and their spread; `though`: what became of cases that were trained on before."""
    seen = f"{_counted(len(scores['seen']), 'case')} seen in an earlier training {though}" if scores["seen"] else ""
    if scores["dice_mean"] is None:
        why = "both masks are empty in every case" if scores["undefined"] else "no case to judge by"
        return "not scored" if reason == "stopped" else seen or why
    spread = "" if scores["dice_sd"] is None else f" ± {scores['dice_sd']:.3f} SD"
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
