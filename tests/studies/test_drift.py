"""How far the encoder goes at each λ, and which λ come next."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.studies.drift import APART, STRONGEST, WEAKEST, DriftCurve, next_strength

curves = st.builds(DriftCurve, free=st.floats(1e-3, 10), knee=st.floats(1e-5, 10), power=st.floats(0.4, 1.5))


@given(curve=curves, share=st.floats(0.01, 0.99))
def test_strength_is_the_inverse_of_share(curve: DriftCurve, share: float) -> None:
    assert curve.share(curve.strength(share)) == pytest.approx(share, rel=1e-6)


@given(curve=curves, one=st.floats(0, math.inf), other=st.floats(0, math.inf))
def test_the_drift_falls_from_all_to_nothing(curve: DriftCurve, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 1 >= curve.share(low) >= curve.share(high) >= 0
    assert (curve.share(0), curve.share(math.inf)) == (1, 0)
    assert (curve.strength(1), curve.strength(0)) == (0, math.inf)


@given(curve=curves, strengths=st.tuples(st.floats(-2, 2), st.floats(0.5, 2)))
def test_two_points_of_a_curve_say_which_it_is(curve: DriftCurve, strengths: tuple[float, float]) -> None:
    high = curve.knee * 10 ** strengths[0]
    points = [(λ, curve.free * curve.share(λ)) for λ in (high, high / 10 ** strengths[1])]
    found = DriftCurve(free=curve.free).through(points)
    assert found.power == pytest.approx(curve.power, rel=1e-3)
    assert math.log(found.knee) == pytest.approx(math.log(curve.knee), abs=1e-2)


@given(curve=curves, count=st.integers(2, 12))
def test_a_path_goes_down_within_the_range_of_the_slider(curve: DriftCurve, count: int) -> None:
    measured = [(math.inf, 0.0)]
    for left in reversed(range(count - 1)):
        λ = next_strength(DriftCurve(free=curve.free), measured, left)
        measured.append((λ, curve.free * curve.share(λ)))
    strengths = [λ for λ, _ in measured]
    assert strengths[0] == math.inf and strengths[-1] == 0 and len(strengths) == count
    assert all(WEAKEST * 0.9 <= λ <= STRONGEST for λ in strengths[1:-1])
    assert all(high / low > APART * 0.9 for high, low in pairwise(strengths[1:-1]))


def test_the_steps_of_a_path_are_about_even_in_drift() -> None:
    truth, measured = DriftCurve(free=0.25, knee=0.03, power=0.4), [(math.inf, 0.0)]
    for left in reversed(range(8)):
        λ = next_strength(DriftCurve(free=0.3), measured, left)
        measured.append((λ, truth.free * truth.share(λ)))
    steps = [b - a for (_, a), (_, b) in pairwise(measured)]
    assert max(steps) < 2.5 * 0.25 / 8 and min(steps) > 0.25 * 0.25 / 8
