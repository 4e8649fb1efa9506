"""From one λ to the next smaller one: every training goes on from the weights of the one before."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from napari_tlseg.engine.finetuning import Setting
from napari_tlseg.events import Control, Evaluated, Event, Reached, Started, Stepped
from napari_tlseg.learn.anchor import Anchor
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.objectives import Objective
from napari_tlseg.studies.drift import DriftCurve, next_strength

WALK = 0.2
"""Drift of a free encoder under Adam: WALK · rate · √(parameters · steps) / ‖θ̄‖, as of a random walk."""
WARM_UP = 5
"""Steps of it at each further λ: the weights and Adam's moments are those of the λ before."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train where."""

    steps: int
    """At the first λ."""
    more: int
    """At each further one."""
    strengths: Sequence[float] = ()
    """From ∞ down; empty to space them by drift."""
    count: int = 9

    @property
    def stages(self) -> int:
        return len(self.strengths) or self.count

    @property
    def total(self) -> int:
        return self.steps + (self.stages - 1) * self.more

    def schedule(self, number: int) -> Schedule:
        if number == 0:
            return Schedule(steps=self.steps)
        return Schedule(steps=self.more, evaluate_every=max(1, math.ceil(self.more / 2)), warm_up=WARM_UP)


def walk(
    plan: Plan, setting: Setting, objective: Objective, rate: float, seed: int, control: Control
) -> Generator[Event, None, None]:
    """Train `setting.model` at one λ after the other; after each the model is the one of that λ, and a Reached is said.

    The steps are counted through. Without a source there is one stage, without λ. A stop ends it before the λ at hand
    is reached.
    """
    measured: list[tuple[float, float]] = []
    begun = 0
    yield Started(stage="train", total=plan.total)
    for number in range(plan.stages):
        if setting.anchor is not None:
            setting.anchor.strength = _strength(plan, setting.anchor, measured, rate)
        schedule = plan.schedule(number)
        training = fit(
            setting.model,
            objective,
            setting.optimizer,
            schedule,
            anchor=setting.anchor,
            norm=setting.provenance.norm,
            precision=setting.precision,
            seed=seed + number,
            control=control,
        )
        with closing(training):
            for event in training:
                yield replace(event, step=event.step + begun) if isinstance(event, Stepped | Evaluated) else event
        begun += schedule.steps
        if control.stop:
            return
        reached = _reached(setting.anchor)
        measured.append((reached.strength or 0.0, reached.drift or 0.0))
        yield reached


def free_drift(anchor: Anchor, rate: float, steps: int) -> float:
    """About how far the encoder would go without λ, relative to ‖θ̄‖."""
    count = sum(p.numel() for p in anchor.parameters)
    return WALK * rate * math.sqrt(count * steps) / max(anchor.size, 1e-12)


def _strength(plan: Plan, anchor: Anchor, measured: Sequence[tuple[float, float]], rate: float) -> float:
    if plan.strengths:
        return plan.strengths[len(measured)]
    if not measured:
        return math.inf
    free = max(free_drift(anchor, rate, plan.total - plan.steps), *(1.2 * drift for _, drift in measured))
    return next_strength(DriftCurve(free=free), measured, plan.stages - len(measured) - 1)


def _reached(anchor: Anchor | None) -> Reached:
    if anchor is None:
        return Reached(strength=None)
    return Reached(strength=anchor.strength, drift=anchor.drift(), drifts=anchor.drifts())
