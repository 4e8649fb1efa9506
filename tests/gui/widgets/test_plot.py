"""The numbers on the axis of a small plot."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.gui.widgets.plot import step_of


@given(st.floats(-100, 100) | st.just(0.0), st.floats(1e-4, 1e4))
def test_there_are_few_numbers_on_an_axis_but_two_at_least(low: float, span: float) -> None:
    high = low + span
    step = step_of(low, high)
    assert 2 <= math.floor(high / step) - math.ceil(low / step) + 1 <= 6


def test_a_score_is_read_against_a_half_and_one() -> None:
    assert [step_of(0, high) for high in (1.0, 10.0, 4.5)] == [0.5, 5.0, 2.0]
