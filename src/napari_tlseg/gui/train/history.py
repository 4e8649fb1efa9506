"""What the events of a training say of its course, as it runs or from its run folder; no Qt."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from napari_tlseg.errors import InputError
from napari_tlseg.events import Evaluated, Event, Stepped

SCORES = {"dice": "Validation Dice (higher is better)", "error": "Localization error, px"}
"""What weights are chosen by, as learn/objectives.py calls it, and as a person does."""


@dataclass(kw_only=True)
class History:
    """What is known of one training."""

    total: int = 0
    """Steps; 0 where it is not known."""
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smooth: list[float] = field(default_factory=list)
    """Exponential mean of the losses over about a twentieth of the steps."""
    looks: list[int] = field(default_factory=list)
    """Steps at which the validation cases were looked at."""
    scores: list[float] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    """Per cent, one per look; NaN without a source."""
    stages: tuple[float, ...] = ()
    """The same of each stage of the encoder at the last look, finest first; empty without a source."""
    kept: int | None = None
    """Which of the looks was at the weights that are kept."""
    score: str = ""
    """Key of SCORES, where there was a score."""
    moves: list[tuple[int, float]] = field(default_factory=list)
    """The first step with a λ, and that λ; of a slider that was dragged, where it came to rest."""
    _mean: float = 0.0
    _weight: float = 0.0

    def hear(self, event: Event) -> bool:
        """Whether it says something new."""
        match event:
            case Stepped():
                self._step(event)
            case Evaluated():
                self._look(event)
            case _:
                return False
        return True

    @property
    def last(self) -> int:
        return max([self.total, *self.steps[-1:], *self.looks[-1:]])

    def _step(self, event: Stepped) -> None:
        self.steps.append(event.step)
        self.losses.append(event.loss if math.isfinite(event.loss) else math.nan)
        if math.isfinite(event.loss):
            share = 2 / (1 + max(5, self.total / 20))
            self._mean += share * (event.loss - self._mean)
            self._weight += share * (1 - self._weight)
        self.smooth.append(self._mean / self._weight if self._weight else math.nan)
        if event.strength is not None and (not self.moves or self.moves[-1][1] != event.strength):
            if self.moves and event.step - self.moves[-1][0] < self.total / 40:
                self.moves.pop()
            self.moves.append((event.step, event.strength))

    def _look(self, event: Evaluated) -> None:
        self.score = next((name for name in SCORES if name in event.scores), self.score)
        self.looks.append(event.step)
        self.scores.append(event.scores.get(self.score, math.nan))
        self.drifts.append(math.nan if event.drift is None else 100 * event.drift)
        self.stages = tuple(100 * drift for drift in event.drifts)
        if event.kept:
            self.kept = len(self.looks) - 1


def read_events(folder: Path) -> Iterator[Stepped | Evaluated]:
    """The steps and looks in the events.jsonl of a run; a line that was cut off when the run was killed is left out."""
    file = folder / "events.jsonl"
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file, "choose the folder of a run") from None
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        match record:
            case {"event": "Stepped", "step": step, "loss": loss}:
                yield Stepped(step=step, loss=_number(loss), strength=_optional(record.get("strength")))
            case {"event": "Evaluated", "step": step, "scores": dict(scores), "kept": kept}:
                numbers = {name: _number(value) for name, value in scores.items()}
                drift, drifts = _optional(record.get("drift")), tuple(map(_number, record.get("drifts", ())))
                yield Evaluated(step=step, scores=numbers, kept=kept, drift=drift, drifts=drifts)


def _number(recorded: float | str | None) -> float:
    """∞ is recorded as "inf", NaN as null."""
    return math.nan if recorded is None else float(recorded)


def _optional(recorded: float | str | None) -> float | None:
    return None if recorded is None else float(recorded)
