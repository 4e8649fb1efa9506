"""Models as differences, and those between them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.errors import InputError
from napari_tlseg.studies.drift import DriftCurve
from napari_tlseg.studies.weights import Between, file_of, read_weights, write_weights


def some(seed: int, scale: float = 0.1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    big = torch.randn(80, 80, generator=torch.Generator().manual_seed(0)) + scale * torch.randn(
        80, 80, generator=generator
    )
    return {"big": big, "mean": torch.randn(8, generator=generator), "count": torch.tensor(seed)}


def test_what_is_returned_is_what_is_read(tmp_path: Path) -> None:
    given = {math.inf: some(1), 0.1: some(2), 0.0: some(3)}
    base = given[math.inf]
    kept = {λ: write_weights(tmp_path, n, λ, state, base) for n, (λ, state) in enumerate(given.items())}
    found = read_weights(tmp_path, 3)
    assert list(found) == [math.inf, 0.1, 0.0]
    for λ, state in given.items():
        assert all(torch.equal(found[λ][name], kept[λ][name]) for name in state)
        assert all(torch.equal(found[λ][name], state[name]) for name in ("mean", "count"))
        away = (state["big"] - base["big"]).abs()
        assert torch.all((found[λ]["big"] - state["big"]).abs() <= away * 2**-11 + 1e-6)
    assert torch.equal(found[math.inf]["big"], base["big"])


def test_a_difference_takes_half_the_space(tmp_path: Path) -> None:
    for number in (0, 1):
        write_weights(tmp_path, number, 1.0, some(number), some(0))
    first, second = (file_of(tmp_path, n).stat().st_size for n in (0, 1))
    assert second < 0.55 * first


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    write_weights(tmp_path, 0, math.inf, some(0), {})
    file_of(tmp_path, 1).write_bytes(content)
    with pytest.raises(InputError, match=r"1\.safetensors"):
        read_weights(tmp_path, 2)


BETWEEN = Between({math.inf: some(1), 0.1: some(2), 1e-3: some(3), 0.0: some(4)}, DriftCurve(free=0.2))


@pytest.mark.parametrize("strength", [math.inf, 0.1, 1e-3, 0.0])
def test_at_a_computed_strength_the_weights_are_its_own(strength: float) -> None:
    assert BETWEEN.at(strength) is BETWEEN.weights[strength]
    assert BETWEEN.nearest(strength) == strength


@given(strength=st.floats(0, math.inf))
def test_between_two_the_weights_lie_on_the_line(strength: float) -> None:
    low, high, t = BETWEEN.neighbours(strength)
    assert low <= strength <= high and 0 <= t <= 1
    a, b, found = (BETWEEN.weights[low]["big"], BETWEEN.weights[high]["big"], BETWEEN.at(strength)["big"])
    assert torch.allclose(found, (1 - t) * a + t * b, atol=1e-5)
    assert BETWEEN.nearest(strength) in (low, high)


def test_there_is_no_jump_on_the_way() -> None:
    places = [10 ** (exponent / 50) for exponent in range(-400, 150)]
    found = [BETWEEN.at(λ)["big"] for λ in (0.0, *places, math.inf)]
    steps = [(b - a).norm().item() for a, b in pairwise(found)]
    assert max(steps) < 0.15 * sum(steps)


@pytest.mark.parametrize("strength", [-1.0, math.nan])
def test_a_strength_that_cannot_be_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="between 0 and ∞"):
        BETWEEN.at(strength)
