"""The runs of a folder in a table, with their scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_tlseg.data.split import FEW
from napari_tlseg.gui.review.legend import DASH
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.rows import Column, Row, Rows
from napari_tlseg.gui.widgets.strength import strength_text

TOO_FEW = f"Too few to judge by: fewer than {FEW} cases."
MARK = "*"
"""Behind a score of too few cases."""
KILLED = "It did not come to its end and was not scored; its model is the best that it had found until then."
COLUMNS = (
    Column(title="Run", tip="The latest comes first"),
    Column(title="λ", tip="How closely the encoder was held to its source, at the end of the training"),
    Column(title="Source", tip="What the encoder was pretrained on", spare=True),
    Column(title="Dice ± SD", tip="Mean and standard deviation over the validation cases", number=True),
    Column(title="Precision", tip="TP / (TP + FP), the mean over the validation cases", number=True),
    Column(title="Held-out", tip="Dice ± SD over the held-out cases that the source did not see", number=True),
)
HELD_OUT = len(COLUMNS) - 1


class RunTable(Rows):
    """Its keys are the paths of the runs."""

    def __init__(self) -> None:
        super().__init__("runs", COLUMNS, least=3, most=6)
        self.setRuns((), final=False)

    def setRuns(self, runs: Sequence[Run], *, final: bool, training: Collection[Path] = ()) -> None:
        """final: with what they score on held-out cases. training: the folders of those that are not through."""
        self.setColumnHidden(HELD_OUT, not final)
        self.setRows([_row(run, final, run.path in training) for run in runs])


def too_few(runs: Sequence[Run]) -> bool:
    """Whether one of the scores in the table is to be taken with care."""
    return any(run.too_few and run.validation.get("dice_mean") is not None for run in runs)


def _row(run: Run, final: bool, training: bool) -> Row:
    name = Row(key=run.path, cells=(run.name,), tips=(str(run.path),))
    if not run.summary:
        state, why = ("training …", "It is not through yet") if training else ("not finished", KILLED)
        return Row(key=run.path, cells=(*name.cells, DASH, DASH, state, DASH, ""), tips=(*name.tips, "", "", why))
    strength = DASH if run.strength is None else strength_text(run.strength)
    held_out = _dice(run.summary) if final else ""
    precision = run.validation.get("precision_mean")
    return Row(
        key=run.path,
        cells=(
            run.name,
            strength,
            run.source.removesuffix(".safetensors"),
            _validation(run),
            _number(precision),
            held_out,
        ),
        tips=(str(run.path), "" if strength != DASH else "No source: nothing to hold to", run.source, _why(run)),
    )


def _validation(run: Run) -> str:
    dice = _dice(run.validation)
    return f"{dice}{MARK}" if run.too_few and dice != DASH else dice


def _why(run: Run) -> str:
    count = len(run.validation.get("cases", ()))
    cases = "1 validation case" if count == 1 else f"{count or 'no'} validation cases"
    return f"Of {cases}. {TOO_FEW if run.too_few else ''}"


def _dice(facts: Mapping[str, Any]) -> str:
    """Mean ± SD; of one case there is no deviation."""
    mean, sd = _number(facts.get("dice_mean")), facts.get("dice_sd")
    return mean if sd is None or mean == DASH else f"{mean} ± {sd:.2f}"


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
