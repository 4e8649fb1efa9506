"""Which λ, and how sure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_tlseg.studies.recommend import Arm, recommend


def arms(means: dict[Arm, float], units: int = 12, noise: float = 0.01, seed: int = 0) -> dict[Arm, dict[str, float]]:
    """Units that differ much from each other, and little from one arm to the other."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 0.1, units)
    return {
        arm: {f"patient {n}": mean + level[n] + rng.normal(0, noise) for n in range(units)}
        for arm, mean in means.items()
    }


def test_a_clear_optimum_is_found_and_the_source_helps() -> None:
    found = recommend(arms({math.inf: 0.6, 1.0: 0.7, 1e-2: 0.85, 0.0: 0.7, None: 0.6}))
    assert (found.strength, found.best, found.verdict) == (1e-2, 1e-2, "helps")
    assert found.gain == pytest.approx(0.25, abs=0.02)
    assert found.p is not None and found.p < 0.01
    assert "λ = 0.01" in found.words and "helps" in found.words


def test_within_one_standard_error_the_larger_wins() -> None:
    best = {f"{n}": 0.8 + 0.1 * (n % 2) for n in range(10)}
    near = {unit: dice - (0.03 if int(unit) % 3 else -0.04) for unit, dice in best.items()}
    far = {unit: dice - 0.05 for unit, dice in best.items()}
    found = recommend({math.inf: far, 1.0: near, 0.0: best})
    differences = np.array([best[u] - near[u] for u in best])
    assert 0 < differences.mean() < differences.std(ddof=1) / math.sqrt(10)
    assert (found.strength, found.best, found.verdict) == (1.0, 0.0, "not compared")
    assert "less than one standard error" in found.words


def test_the_error_is_of_the_difference_and_not_of_the_units() -> None:
    """The units' own spread is 0.1, so that their standard error would call 0.02 chance; it is not."""
    found = recommend(arms({math.inf: 0.80, 0.0: 0.82}, noise=0.001))
    assert found.strength == 0.0


def test_harm_is_said_and_the_source_not_taken() -> None:
    found = recommend(arms({math.inf: 0.5, 0.0: 0.6, None: 0.8}))
    assert found.strength is None and found.verdict == "harms"
    assert "negative transfer" in found.words and "without the source" in found.words


def test_what_cannot_be_told_is_said() -> None:
    found = recommend(arms({math.inf: 0.8, 0.0: 0.8, None: 0.8}, noise=0.05, seed=1))
    assert found.verdict == "unclear" and found.strength is not None
    assert "cannot be told" in found.words


def test_few_patients_are_a_guess() -> None:
    found = recommend(arms({math.inf: 0.5, 0.0: 0.8, None: 0.6}, units=3))
    assert found.verdict == "too few" and "too few to judge" in found.words
    assert recommend({0.0: {"a": 0.5}, None: {"a": 0.4}}).means[0.0] == (0.5, None)


def test_a_flat_path_says_that_it_does_not_matter() -> None:
    assert "does not matter" in recommend(arms({math.inf: 0.8, 1.0: 0.8, 0.0: 0.8}, noise=1e-4)).words
