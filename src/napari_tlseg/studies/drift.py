"""How far the encoder goes at each λ: to space the λ of a path evenly by it, and to go between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

KNEE, POWER = 0.05, 0.5
"""Of the first paths on photographs: where half of the free drift is left, and how fast it falls there."""
STEEP = (0.25, 1.5)
"""The power stays within; two points close to each other say little of it."""

WEAKEST, STRONGEST = 1e-6, 100.0
"""The finite λ; below and above them nothing changes."""
APART = 1.5


@dataclass(frozen=True, kw_only=True)
class DriftCurve:
    """drift(λ) = free / (1 + (λ / knee)^power): all of it at λ = 0, none at ∞, falling on a logarithmic scale of λ.

    It describes what was measured, no more: where it is wrong, λ are spaced less evenly.
    """

    free: float
    """‖θ − θ̄‖ / ‖θ̄‖ at λ = 0."""
    knee: float = KNEE
    power: float = POWER

    def share(self, strength: float) -> float:
        """drift(λ) / free, in [0, 1].

        >>> [DriftCurve(free=0.2, knee=1e-3).share(λ) for λ in (0, 1e-3, math.inf)]
        [1.0, 0.5, 0.0]
        """
        if strength == 0:
            return 1.0
        return (
            1 / (1 + math.exp(min(self.power * (math.log(strength) - math.log(self.knee)), 700)))
            if strength < math.inf
            else 0.0
        )

    def strength(self, share: float) -> float:
        """The λ at which that share of the free drift is left: the inverse of `share`."""
        if not 0 < share < 1:
            return math.inf if share <= 0 else 0.0
        return self.knee * math.exp(math.log(1 / share - 1) / self.power)

    def through(self, measured: Sequence[tuple[float, float]]) -> DriftCurve:
        """The curve moved to the last (λ, drift) that was measured, and as steep as the last two say."""
        last = [
            (math.log(λ), math.log(self.free / d - 1)) for λ, d in measured if 0 < d < self.free and 0 < λ < math.inf
        ]
        if not last:
            return self
        (x, y), power = last[-1], self.power
        if len(last) > 1 and last[-2][0] != x:
            power = min(max((y - last[-2][1]) / (x - last[-2][0]), STEEP[0]), STEEP[1])
        return replace(self, power=power, knee=math.exp(x - y / power))


def next_strength(curve: DriftCurve, measured: Sequence[tuple[float, float]], left: int) -> float:
    """The next λ on the way down, so that the `left` ones after it (0 is the last) cut the rest of the way evenly.

    measured: (λ, drift) so far, from ∞ down. All lie within the range of the slider and a factor of 1.5 apart or more;
    they have two digits.
    """
    if left == 0:
        return 0.0
    went = measured[-1][1] / curve.free if measured else 0.0
    wanted = curve.through(measured).strength(min(went, 1.0) + max(1 - went, 0) / (left + 1))
    above = [λ for λ, _ in measured if λ < math.inf]
    wanted = max(wanted, WEAKEST * APART**left)
    return float(f"{min(wanted, above[-1] / APART) if above else min(wanted, STRONGEST):.2g}")
