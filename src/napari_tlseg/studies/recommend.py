"""Which λ, from the Dice of the same cases at each: by the one-standard-error rule, and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from napari_tlseg.data.split import FEW
from napari_tlseg.learn.metrics import paired_test

Arm = float | None
"""λ, or None for a training without the source."""
Dice = Mapping[str, float]
"""Of each unit that is independent of the others, a patient, the mean Dice over its cases."""
Verdict = Literal["helps", "harms", "unclear", "too few", "not compared"]


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to take, and how sure that is."""

    strength: Arm
    """None: train without the source."""
    best: float
    """The λ with the highest mean."""
    means: Mapping[Arm, tuple[float, float | None]]
    """(mean Dice, its standard error; None with a single unit) of each arm."""
    verdict: Verdict
    """Of the source at the recommended λ against a training without it."""
    gain: float | None
    """Mean difference to the training without it."""
    p: float | None
    """Of Wilcoxon's signed-rank test of that difference over the units; None below six."""
    words: str


def recommend(dice: Mapping[Arm, Dice]) -> Recommendation:
    """The largest λ that is within one standard error of the best (Breiman et al. 1984; Hastie et al. 2009, sec. 7.10).

    The standard error is that of the *difference* to the best, unit by unit: units differ far more from each other
    than λ do. Without the source is recommended only where that is better by two standard errors, else the verdict is
    that the data cannot tell. At least one λ; all arms have the same units.
    """
    strengths = [arm for arm in dice if arm is not None]
    if not strengths:
        raise ValueError("a recommendation needs at least one λ")
    best = max(strengths, key=lambda λ: (fmean(dice[λ].values()), λ))
    near = [λ for λ in strengths if -_difference(dice[λ], dice[best])[0] <= (_difference(dice[λ], dice[best])[1] or 0)]
    chosen = max(near)
    verdict, gain = _judge(dice, chosen)
    strength = None if verdict == "harms" else chosen
    p = paired_test(dice[chosen], dice[None]) if None in dice else None
    means = {arm: mean_and_error(list(values.values())) for arm, values in dice.items()}
    words = _say(strength, best, verdict, gain, len(dice[best]), dice)
    return Recommendation(strength=strength, best=best, means=means, verdict=verdict, gain=gain, p=p, words=words)


def _judge(dice: Mapping[Arm, Dice], chosen: float) -> tuple[Verdict, float | None]:
    if None not in dice:
        return "not compared", None
    gain, error = _difference(dice[chosen], dice[None])
    if error is None or len(dice[chosen]) < FEW:
        return "too few", gain
    return ("unclear" if abs(gain) <= 2 * error else "helps" if gain > 0 else "harms"), gain


def _say(strength: Arm, best: float, verdict: Verdict, gain: float | None, units: int, dice: Mapping[Arm, Dice]) -> str:
    take = "Train without the source." if strength is None else f"Take λ = {name(strength)}."
    if strength is not None and strength != best:
        take += f" λ = {name(best)} has the highest Dice, but by less than one standard error: then the larger λ."
    spread = [fmean(dice[λ].values()) for λ in dice if λ is not None]
    if max(spread) - min(spread) < 0.005:
        take += " Over all λ the Dice hardly differs: on these data λ does not matter."
    judged = {
        "helps": f"The source helps: Dice {gain or 0:+.3f} against a training without it.",
        "harms": f"The source does harm (negative transfer): Dice {gain or 0:+.3f} against a training without it.",
        "unclear": f"Whether the source helps cannot be told from these data (Dice {gain or 0:+.3f}, within chance).",
        "too few": f"{units} patients are too few to judge by: take it as a guess.",
        "not compared": "No training without the source was there to compare with.",
    }
    return f"{take} {judged[verdict]}"


def name(strength: Arm) -> str:
    """As a person reads it."""
    return "no source" if strength is None else "∞" if math.isinf(strength) else f"{strength:g}"


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error; None of a single value."""
    return fmean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _difference(one: Dice, other: Dice) -> tuple[float, float | None]:
    """(mean, standard error) over units of what `one` has more."""
    return mean_and_error([one[unit] - other[unit] for unit in one])
