"""The cases of a run in a table: worst first, or those first in which the λ of a path disagree most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from napari_tlseg.gui.review.legend import DASH
from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.rows import Column, Row, Rows

HELD_OUT = "held-out"
State = Literal["scored", "undefined", "hidden", "not scored"]
Order = Literal["dice", "disagreement"]
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
    "pseudo-label": "It has no mask; what its model is sure of can be learned",
    "accepted": "It has no mask; you accepted what the model says of it",
    "rejected": "It has no mask; you rejected what the model says of it",
    "not used": "The run did not look at it: it has no mask, or got it later",
}
SEEN = "The source was trained on this case: its score flatters."
DISAGREE = "The chance that a pixel which one λ of the path marks is not marked by another; no mask is needed for it."
COLUMNS = (
    Column(title="Case"),
    Column(title="Part", tip="What the case was to the run"),
    Column(
        title="Dice", tip="Of the whole case; the mean over the classes. Click here for the worst first", number=True
    ),
    Column(title="λ disagree", tip=f"{DISAGREE} Click here for the most first", number=True),
)
PLACES: dict[Order, int] = {"dice": 2, "disagreement": 3}
"""The columns that the table can be sorted by, with a click on the heading."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A case, and how well the run did on it."""

    name: str
    part: str
    """training, validation, held-out, not used, or what is said of its pseudo-label; a dash where nobody knows."""
    state: State
    dice: float | None = None
    seen: bool = False
    """The source of the run was trained on it."""
    doubt: str = ""
    """Why the run says that its mask may be wrong."""
    disagreement: float | None = None
    """How far the λ of a path disagree; None where they were not compared, or find nothing."""


class CaseTable(Rows):
    """Its keys are the names of the cases."""

    def __init__(self) -> None:
        super().__init__("cases", COLUMNS, least=4, most=10)
        self._cases: Sequence[Judged] = ()
        self._order: Order = "dice"
        head = self.horizontalHeader()
        head.setSectionsClickable(True)
        head.sectionClicked.connect(self._sort_by)
        self.setCases(())

    def setCases(self, cases: Iterable[Judged]) -> None:
        """Worst first, then as they come; there is a column of disagreement where one of them was compared."""
        self._cases = tuple(cases)
        compared = any(case.disagreement is not None for case in self._cases)
        self.setColumnHidden(PLACES["disagreement"], not compared)
        ordered = most_disagreement_first if compared and self._order == "disagreement" else worst_first
        self.setRows([_row(case) for case in ordered(self._cases)])

    def sort(self, order: Order) -> None:
        self._order = order
        self.setCases(self._cases)

    def _sort_by(self, column: int) -> None:
        order = next((order for order, place in PLACES.items() if place == column), None)
        if order is not None:
            self.sort(order)


def worst_first(cases: Iterable[Judged]) -> list[Judged]:
    """Then those whose score is undefined, then those without one, in their order."""
    later = {"scored": 0, "undefined": 1}
    return sorted(cases, key=lambda case: (later.get(case.state, 2), case.dice or 0.0))


def most_disagreement_first(cases: Iterable[Judged]) -> list[Judged]:
    """Then those in which no λ finds anything, or where nobody compared them."""
    return sorted(cases, key=lambda case: (case.disagreement is None, -(case.disagreement or 0.0)))


def judged(
    run: Run, names: Sequence[str], *, final: bool, pseudo: Mapping[str, str] = MappingProxyType({})
) -> list[Judged]:
    """The cases as the run sees them. What is hidden until the final look has no score: its place would tell.

    pseudo: what is said of the pseudo-labels of cases.
    """
    return [_judge(run, name, final, pseudo.get(name, "")) for name in names]


def _judge(run: Run, name: str, final: bool, pseudo: str) -> Judged:
    part = run.part_of(name) or pseudo or ("not used" if run.summary else DASH)
    dice, state = run.dice.get(name), _state(run, name, hidden=part == HELD_OUT and not final)
    return Judged(
        name=name,
        part=part,
        state=state,
        dice=dice if state == "scored" else None,
        seen=name in run.seen,
        doubt=run.doubts.get(name, ""),
        disagreement=run.disagreement.get(name),
    )


def _state(run: Run, name: str, *, hidden: bool) -> State:
    if name not in run.dice:
        return "not scored"
    if hidden:
        return "hidden"
    return "undefined" if run.dice[name] is None else "scored"


def _row(case: Judged) -> Row:
    dice = WORDS.get(case.state) if case.dice is None else f"{case.dice:.3f}"
    differ = "" if case.disagreement is None else f"{case.disagreement:.0%}"
    part = " · ".join((case.part, *(["seen"] if case.seen else ()), *(["doubtful"] if case.doubt else ())))
    doubt = f"Look at it: {case.doubt}." if case.doubt else ""
    why = " ".join(filter(None, (PARTS.get(case.part, ""), SEEN if case.seen else "", doubt)))
    cells = (case.name, part, dice or "", differ)
    return Row(key=case.name, cells=cells, tips=(case.name, why, TIPS[case.state], DISAGREE if differ else ""))
