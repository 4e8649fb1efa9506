"""From one λ to the next smaller one: every training goes on from the weights of the one before."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from napari_tlseg.engine.settling import Setting
from napari_tlseg.events import Control, Evaluated, Event, Reached, Started, Stepped
from napari_tlseg.learn.anchor import Anchor
from napari_tlseg.learn.average import Average
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.objectives import Objective
from napari_tlseg.studies.drift import DriftCurve, next_strength

WALK = 0.2
"""Drift of a free encoder under Adam: WALK · rate · √(parameters · steps) / ‖θ̄‖, as of a random walk."""
LEVEL = 0.5
"""Factor on the learning rate along the path. It does not fall and rise again at each λ, which costs more than a short
training wins back; the noise of a constant rate is averaged out."""


NEAR = 0.1
"""The λ from which it is not far to ∞: the encoder has moved by some 2 %."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train where."""

    steps: int
    """Of a training of its own; before the first λ of several."""
    more: int
    """At each λ of several, beginning with the second where the first is finite."""
    strengths: Sequence[float] = ()
    """From ∞ down; empty to space them by drift."""
    count: int = 9

    @property
    def stages(self) -> int:
        return len(self.strengths) or self.count

    @property
    def from_frozen(self) -> bool:
        """Whether it goes from ∞ to another λ."""
        return self.stages > 1 and (not self.strengths or math.isinf(self.strengths[0]))

    @property
    def total(self) -> int:
        return self.steps + (self.stages - 1 + self.from_frozen) * self.more

    @property
    def first(self) -> Schedule:
        return Schedule(steps=self.steps, low=LEVEL if self.stages > 1 else 0.0)

    @property
    def further(self) -> Schedule:
        """One look, at its end."""
        return Schedule(steps=self.more, evaluate_every=self.more, warm_up=1, high=LEVEL, low=LEVEL)


def walk(
    plan: Plan, setting: Setting, objective: Objective, rate: float, seed: int, control: Control
) -> Generator[Event, None, None]:
    """Train `setting.model` at one λ after the other; after each the model is the one of that λ, and a Reached is said.

    At λ = ∞ the statistics of batch-norm are the source's, elsewhere those of the new images, to which the decoder
    would have to get used at the second λ. So a path from ∞ begins at that one, is at ∞ for a moment, goes back, and on
    from there. The models are means over the last steps.

    The steps are counted through. Without a source there is one stage, without λ. A stop ends it before the λ at hand
    is reached.
    """
    measured: list[tuple[float, float]] = []
    way = _Way(setting=setting, objective=objective, seed=seed, control=control)
    average = Average() if plan.stages > 1 else None
    yield Started(stage="train", total=plan.total)
    if plan.from_frozen and average is not None and setting.anchor is not None:
        second = _strength(plan, setting.anchor, [(math.inf, 0.0)], LEVEL * rate)
        yield from way.train(max(second, NEAR), plan.first, average)
        before = way.state()
        yield from way.train(math.inf, plan.further, Average())
        if control.stop:
            return
        yield way.reached(measured)
        way.go_back(before)
        average.swap(setting.model)
    while len(measured) < plan.stages:
        strength = None if setting.anchor is None else _strength(plan, setting.anchor, measured, LEVEL * rate)
        yield from way.train(strength, plan.further if way.begun else plan.first, average)
        if control.stop:
            return
        yield way.reached(measured)
        if average is not None:
            average.swap(setting.model)  # on from the weights, not from their mean


@dataclass(kw_only=True, eq=False)
class _Way:
    """What is trained, and how many steps it has behind it."""

    setting: Setting
    objective: Objective
    seed: int
    control: Control
    begun: int = 0
    _trainings: int = field(default=0, init=False)

    def train(
        self, strength: float | None, schedule: Schedule, average: Average | None
    ) -> Generator[Event, None, None]:
        """At one λ; the model then holds the average, where there is one."""
        setting = self.setting
        if setting.anchor is not None and strength is not None:
            setting.anchor.strength = strength
        training = fit(
            setting.model,
            self.objective,
            setting.optimizer,
            schedule,
            anchor=setting.anchor,
            norm=setting.provenance.norm,
            precision=setting.precision,
            seed=self.seed + self._trainings,
            control=self.control,
            average=average,
        )
        with closing(training):
            for event in training:
                yield replace(event, step=event.step + self.begun) if isinstance(event, Stepped | Evaluated) else event
        self.begun += schedule.steps
        self._trainings += 1

    def reached(self, measured: list[tuple[float, float]]) -> Reached:
        """The λ at hand, which is measured now."""
        anchor = self.setting.anchor
        reached = Reached(strength=None)
        if anchor is not None:
            reached = Reached(strength=anchor.strength, drift=anchor.drift(), drifts=anchor.drifts())
        measured.append((reached.strength or 0.0, reached.drift or 0.0))
        return reached

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the model and of the optimizer, to go back to."""
        return copy.deepcopy(self.setting.model.state_dict()), copy.deepcopy(self.setting.optimizer.state_dict())

    def go_back(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self.setting.model.load_state_dict(state[0])
        self.setting.optimizer.load_state_dict(state[1])


def free_drift(anchor: Anchor, rate: float, steps: int) -> float:
    """About how far the encoder would go without λ, relative to ‖θ̄‖."""
    count = sum(p.numel() for p in anchor.parameters)
    return WALK * rate * math.sqrt(count * steps) / max(anchor.size, 1e-12)


def _strength(plan: Plan, anchor: Anchor, measured: Sequence[tuple[float, float]], rate: float) -> float:
    if plan.strengths:
        return plan.strengths[len(measured)]
    free = max(free_drift(anchor, rate, plan.total - plan.steps), *(1.2 * drift for _, drift in measured))
    return next_strength(DriftCurve(free=free), measured, plan.stages - len(measured) - 1)
