"""How far several masks of a case agree: against the definition over all pairs, and as files."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_tlseg.data.case import Case
from napari_tlseg.data.disagreement import Disagreements, Votes, most_first, next_mask
from napari_tlseg.data.folder import read_dataset
from tiny import write_chests, write_eyes

Masks = NDArray[np.uint8]
masks = st.integers(2, 6).flatmap(lambda m: arrays(np.uint8, (m, 2, 3, 4), elements=st.integers(0, 2)))


def vote(masks: Masks, classes: int = 3) -> Votes:
    votes = Votes(classes)
    for each in masks:
        votes.add(each)
    return votes


@given(masks=masks)
def test_a_map_is_the_share_of_pairs_that_differ(masks: Masks) -> None:
    pairs = list(combinations(masks, 2))
    share = np.mean([a != b for a, b in pairs], axis=0)
    np.testing.assert_allclose(vote(masks).percent(), 100 * share, atol=0.5 + 1e-9)


@given(masks=masks)
def test_the_number_is_one_minus_dice_between_two_models(masks: Masks) -> None:
    """2 Σ |A ∩ B| / Σ (|A| + |B|) over all pairs, of each class that is found at all."""

    def of(label: int) -> float | None:
        pairs = list(combinations(masks == label, 2))
        sizes = sum(int(a.sum() + b.sum()) for a, b in pairs)
        return 1 - 2 * sum(int((a & b).sum()) for a, b in pairs) / sizes if sizes else None

    found = [one for label in (1, 2) if (one := of(label)) is not None]
    assert vote(masks).disagreement == (pytest.approx(fmean(found)) if found else None)


def test_equal_masks_agree_and_masks_apart_do_not() -> None:
    disc = np.zeros((1, 4, 4), np.uint8)
    disc[0, :2] = 1
    assert vote(np.stack([disc] * 9)).disagreement == 0 and not vote(np.stack([disc] * 9)).percent().any()
    assert vote(np.stack([disc, 1 - disc])).disagreement == 1
    assert (vote(np.stack([disc, 1 - disc])).percent() == 100).all()
    assert vote(np.zeros((3, 1, 4, 4), np.uint8)).disagreement is None
    nine = vote(np.stack([disc] * 5 + [0 * disc] * 4))
    assert nine.percent().max() == 56, "five of nine against four: 20 of 36 pairs"


@pytest.mark.parametrize("write", [write_eyes, write_chests])
def test_a_map_is_read_as_it_was_written_on_the_grid_of_its_case(write: object, tmp_path: Path) -> None:
    case: Case = read_dataset(write(tmp_path / "data", 1)).cases[0]  # type: ignore[operator]
    votes = Votes(2)
    for seed in range(5):
        votes.add(np.random.default_rng(seed).integers(0, 2, case.geometry.plane_shape, np.uint8))
    kept = Disagreements(tmp_path / "run")
    path = kept.write_map(case, votes)
    assert path == kept.map_of(case) and path.parent == tmp_path / "run" / "path" / "disagreement"
    np.testing.assert_array_equal(kept.read_map(case), votes.percent())


def test_the_table_has_the_most_first_and_what_is_undefined_last(tmp_path: Path) -> None:
    kept = Disagreements(tmp_path)
    assert kept.read() == {}
    kept.write({"a": 0.0, "b": None, "c": 0.25}, masked={"a"})
    assert list(kept.read().items()) == [("c", 0.25), ("a", 0.0), ("b", None)]
    assert kept.table.read_text() == "case,disagreement,mask\nc,0.25,False\na,0.0,True\nb,,False\n"
    assert list(most_first({"b": None, "a": 0.0})) == ["a", "b"]


def test_the_next_mask_is_of_a_case_that_would_be_learned_from(tmp_path: Path) -> None:
    root = write_eyes(tmp_path / "eyes", 4)
    for name in ("eye1", "eye2", "eye3"):
        (root / "masks" / f"{name}.png").unlink()
    (root / "split.csv").write_text("case,part\neye0,training\neye1,held-out\neye2,training\neye3,training\n")
    dataset = read_dataset(root)
    assert next_mask(dataset, {"eye0": 0.9, "eye1": 0.8, "eye2": 0.1, "eye3": 0.2}) == "eye3"
    assert next_mask(dataset, {"eye0": 0.9, "eye1": 0.8, "eye2": None}) is None
