"""The cases of a run in a table, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from napari_tlseg.gui.review.legend import DASH
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.rows import Column, Row, Rows

HELD_OUT = "held-out"
State = Literal["scored", "undefined", "hidden", "not scored"]
WORDS: dict[State, str] = {"undefined": DASH, "hidden": "hidden", "not scored": ""}
TIPS: dict[State, str] = {
    "scored": "2 TP / (2 TP + FP + FN), the mean over the classes",
    "undefined": "Neither the mask nor the prediction holds any of it: there is nothing to score",
    "hidden": "A held-out case: its score is shown in the final look",
    "not scored": "Pick it to see what the run finds in it",
}
PARTS = {
    "training": "The run learned from its mask",
    "validation": "λ is chosen by it, and the weights of a run that was stopped",
    HELD_OUT: "Kept for the final look",
    "not used": "The run did not look at it: it has no mask, or got it later",
}
SEEN = "The source was trained on this case: its score flatters."
COLUMNS = (
    Column(title="Case", tip="The worst come first"),
    Column(title="Part", tip="What the case was to the run"),
    Column(title="Dice", tip="Of the whole case; the mean over the classes", number=True),
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A case, and how well the run did on it."""

    name: str
    part: str
    """training, validation, held-out or not used; a dash where the run does not say."""
    state: State
    dice: float | None = None
    seen: bool = False
    """The source of the run was trained on it."""
    doubt: str = ""
    """Why the run says that its mask may be wrong."""


class CaseTable(Rows):
    """Its keys are the names of the cases."""

    def __init__(self) -> None:
        super().__init__("cases", COLUMNS, least=4, most=10)

    def setCases(self, cases: Iterable[Judged]) -> None:
        self.setRows([_row(case) for case in cases])


def judged(run: Run, names: Sequence[str], *, final: bool) -> list[Judged]:
    """Worst first, then those whose score is undefined, then those without one, in their order.

    What is hidden until the final look has no place of its own either: it would tell.
    """
    found = [_judge(run, name, final) for name in names]
    return sorted(found, key=_badness)


def _judge(run: Run, name: str, final: bool) -> Judged:
    part = run.part_of(name) or ("not used" if run.summary else DASH)
    dice, state = run.dice.get(name), _state(run, name, hidden=part == HELD_OUT and not final)
    dice, doubt = dice if state == "scored" else None, run.doubts.get(name, "")
    return Judged(name=name, part=part, state=state, dice=dice, seen=name in run.seen, doubt=doubt)


def _state(run: Run, name: str, *, hidden: bool) -> State:
    if name not in run.dice:
        return "not scored"
    if hidden:
        return "hidden"
    return "undefined" if run.dice[name] is None else "scored"


def _badness(case: Judged) -> tuple[int, float]:
    return {"scored": 0, "undefined": 1}.get(case.state, 2), case.dice or 0.0


def _row(case: Judged) -> Row:
    dice = WORDS.get(case.state) if case.dice is None else f"{case.dice:.3f}"
    part = " · ".join((case.part, *(["seen"] if case.seen else ()), *(["doubtful"] if case.doubt else ())))
    doubt = f"Look at it: {case.doubt}." if case.doubt else ""
    why = " ".join(filter(None, (PARTS.get(case.part, ""), SEEN if case.seen else "", doubt)))
    return Row(key=case.name, cells=(case.name, part, dice or ""), tips=(case.name, why, TIPS[case.state]))
