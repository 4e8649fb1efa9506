"""No patient on two sides, and what was once decided stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.split import PARTS, Split, assign, choose, read_split, split_dataset
from napari_tlseg.errors import InputError

GEOMETRY = Geometry(shape=(4, 4), spacing=(1.0, 1.0))


def case(name: str, patient: str = "", mask: bool = True, click: bool = False) -> Case:
    path = Path(f"{name}.png")
    point = (1.0, 1.0) if click else None
    return Case(name=name, image=path, geometry=GEOMETRY, mask=path if mask else None, click=point, patient=patient)


def dataset(cases: Iterable[Case], folder: Path = Path("eyes")) -> Dataset:
    return Dataset(folder=folder, cases=tuple(cases))


def masked(count: int, folder: Path = Path("eyes")) -> Dataset:
    return dataset((case(f"{number:03}") for number in range(count)), folder)


def names(cases: Iterable[Case]) -> list[str]:
    return [case.name for case in cases]


annotated_cases = st.lists(
    st.builds(
        lambda number, patient, mask, click: case(f"c{number}", f"p{patient}", mask, click),
        st.integers(0, 60),
        st.integers(0, 12),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda case: case.name,
)


@pytest.mark.parametrize(
    ("count", "training", "validation", "held_out"), [(1, 1, 0, 0), (2, 1, 0, 1), (10, 6, 2, 2), (109, 70, 17, 22)]
)
def test_fractions_are_exact_at_first_use(count: int, training: int, validation: int, held_out: int) -> None:
    for seed in range(5):
        parts = Counter(assign(masked(count), seed).values())
        assert [parts[part] for part in PARTS] == [training, validation, held_out]


def test_each_kind_of_annotation_is_balanced_in_itself() -> None:
    mixed = [case(f"{n}", mask=n < 20, click=20 <= n < 120) for n in range(170)]
    parts = assign(dataset(mixed), seed=3)
    for kind, count in ((range(20), 4), (range(20, 120), 20), (range(170), 34)):
        assert Counter(parts[str(n)] for n in kind)["held-out"] == count


def test_the_seed_decides_and_the_order_of_the_cases_does_not() -> None:
    cases = list(masked(30))
    assert assign(dataset(cases), 0) == assign(dataset(reversed(cases)), 0)
    assert assign(dataset(cases), 0) != assign(dataset(cases), 1)


def test_two_patients_of_very_different_size_still_leave_one_to_hold_out() -> None:
    cases = [case(f"{n}", "big" if n < 90 else "small") for n in range(100)]
    for seed in range(8):
        parts = assign(dataset(cases), seed)
        assert parts["0"] == "training"
        assert parts["99"] == "held-out"


def test_nothing_is_held_out_when_nothing_is_asked_for() -> None:
    assert "held-out" not in assign(masked(20), 0, held_out=0).values()
    assert set(assign(masked(20), 0, held_out=0, validation=0).values()) == {"training"}


@pytest.mark.parametrize(("held_out", "validation"), [(1.0, 0.2), (-0.1, 0.2), (0.2, 1.5), (float("nan"), 0.2)])
def test_a_fraction_that_is_none_is_refused(held_out: float, validation: float) -> None:
    with pytest.raises(InputError, match="fraction"):
        assign(masked(20), 0, held_out, validation)


@given(annotated_cases, st.integers(0, 5), st.floats(0, 0.9), st.floats(0, 0.9))
def test_no_patient_is_in_two_parts(cases: list[Case], seed: int, held_out: float, validation: float) -> None:
    parts = assign(dataset(cases), seed, held_out, validation)
    assert parts.keys() == {case.name for case in cases}
    assert len({(case.patient, parts[case.name]) for case in cases}) == len({case.patient for case in cases})


@given(annotated_cases, st.data(), st.integers(0, 5))
def test_old_cases_never_move(cases: list[Case], data: st.DataObject, seed: int) -> None:
    old = data.draw(st.sets(st.sampled_from(cases))) if cases else set()
    before = assign(dataset(old), seed)
    after = assign(dataset(cases), seed + 1, 0.5, known=before)
    assert {name: after[name] for name in before} == before
    assert len({(case.patient, after[case.name]) for case in cases}) == len({case.patient for case in cases})


def test_new_cases_bring_the_parts_back_to_their_shares() -> None:
    known = {f"{n:03}": "training" for n in range(10)}
    parts = Counter(assign(masked(50), 0, known=known).values())
    assert [parts[part] for part in PARTS] == [32, 8, 10]


def test_split_csv_is_written_once_and_completed(tmp_path: Path) -> None:
    first = split_dataset(masked(10, tmp_path), seed=1)
    text = (tmp_path / "split.csv").read_text()
    assert text.startswith("case,part\n000,")
    assert read_split(tmp_path) == first.parts
    assert split_dataset(masked(10, tmp_path), seed=2, held_out=0.5).parts == first.parts
    assert (tmp_path / "split.csv").read_text() == text
    more = split_dataset(masked(20, tmp_path), seed=2)
    assert (tmp_path / "split.csv").read_text().startswith(text)
    assert first.parts.items() <= more.parts.items()
    assert Counter(more.parts.values())["held-out"] == 4


def test_a_split_of_images_that_are_gone_is_kept_and_told(tmp_path: Path) -> None:
    split_dataset(masked(10, tmp_path), seed=1)
    split = split_dataset(masked(8, tmp_path), seed=1, held_out=0)
    assert any("names 2 cases" in note for note in split.notes)
    assert any("stay held out" in note for note in split.notes)
    assert len(read_split(tmp_path)) == 10


def test_a_share_that_split_csv_does_not_follow_is_told(tmp_path: Path) -> None:
    assert not split_dataset(masked(10, tmp_path), seed=1).notes
    assert not split_dataset(masked(10, tmp_path), seed=2).notes
    (note,) = split_dataset(masked(10, tmp_path), seed=1, held_out=0.5).notes
    assert note == (
        "2 of 10 cases stay held out, as split.csv says, whatever --held-out 0.5 asks for; delete it to draw anew."
    )


def test_a_read_only_folder_keeps_its_split_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    split = split_dataset(masked(10, folder), seed=1)
    assert len(split.parts) == 10
    assert any("read-only" in note for note in split.notes)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1"),
        ("case;part\na;training\n", "separated by ';'"),
        ("case,part\na,test\n", "line 2: 'test' is no part"),
        ("case,part\na,training\n\na,training\n", "line 4: case 'a' appears twice"),
        ("case,part\na\n", "line 2: has 1 columns"),
        ('case,part\n"a,training\n', "line 2"),
    ],
)
def test_a_malformed_split_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        read_split(tmp_path)
    assert caught.value.path == tmp_path / "split.csv"


def test_a_patient_on_both_sides_is_named(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("case,part\nleft,training\nright,held-out\n")
    with pytest.raises(InputError, match=r"patient 'Ann' is in two parts: training \(left\), held-out \(right\)"):
        split_dataset(dataset([case("left", "Ann"), case("right", "Ann")], tmp_path), seed=0)


def whole_split(cases: Dataset, seed: int = 0) -> Split:
    return Split(parts=assign(cases, seed))


def test_all_masks_are_used_when_no_number_is_given() -> None:
    cases = masked(50)
    parts = choose(cases, whole_split(cases))
    assert [len(parts.training), len(parts.validation), len(parts.held_out)] == [32, 8, 10]
    assert sorted(names(parts.training + parts.validation + parts.held_out)) == names(cases)
    assert parts.notes == ()


@pytest.mark.parametrize(
    ("labels", "training", "validation"),
    [(1, 1, 0), (4, 4, 0), (5, 4, 1), (7, 6, 1), (8, 6, 2), (20, 16, 4), (40, 32, 8)],
)
def test_labels_count_training_and_validation(labels: int, training: int, validation: int) -> None:
    cases = masked(50)
    split = whole_split(cases)
    parts = choose(cases, split, labels)
    assert [len(parts.training), len(parts.validation), len(parts.held_out)] == [training, validation, 10]
    for part, chosen in zip(PARTS, (parts.training, parts.validation, parts.held_out), strict=True):
        assert {split.parts[case.name] for case in chosen} <= {part}
    assert any("Fewer than 5" in note for note in parts.notes) == (labels < 5)


@given(annotated_cases, st.integers(0, 5))
def test_fewer_labels_are_among_more(cases: list[Case], seed: int) -> None:
    full = dataset(cases)
    split = Split(parts=assign(full, seed, 0), held_out=0)
    roomy = Counter(split.parts[case.name] for case in full.labelled)["training"] >= 4
    for labels in range(1, len(full.labelled)):
        less, more = choose(full, split, labels, seed=seed), choose(full, split, labels + 1, seed=seed)
        assert len(less.training) + len(less.validation) == labels
        assert not set(names(less.training)) & set(names(less.validation))
        assert set(names(less.validation)) <= set(names(more.validation))
        if roomy:
            assert set(names(less.training)) <= set(names(more.training))


def test_the_choice_does_not_depend_on_other_cases() -> None:
    some = masked(50)
    more = dataset([*some, *(case(f"new{n}", mask=False) for n in range(30))])
    split = whole_split(more)
    assert names(choose(some, split, 7).training) == names(choose(more, split, 7).training)
    assert names(choose(some, split, 7).training) != names(choose(some, split, 7, seed=1).training)


def test_clicks_are_chosen_like_masks() -> None:
    clicked = dataset(case(f"{n}", mask=n == 0, click=n < 40) for n in range(50))
    parts = choose(clicked, whole_split(clicked), annotation="click")
    assert len(parts.training + parts.validation + parts.held_out) == 40
    assert len(parts.held_out) == 8


def test_more_labels_than_there_are_is_refused() -> None:
    cases = masked(50)
    for labels in (41, 0, -1):
        with pytest.raises(InputError, match=r"40 are there.*from 1 to 40"):
            choose(cases, whole_split(cases), labels)


@pytest.mark.parametrize("cases", [masked(1), dataset([case("a", "Ann"), case("b", "Ann")])])
def test_one_patient_leaves_nothing_to_hold_out(cases: Dataset) -> None:
    with pytest.raises(InputError, match=r"nothing to hold out.*--held-out 0"):
        choose(cases, whole_split(cases))
    parts = choose(cases, Split(parts=assign(cases, 0, held_out=0), held_out=0))
    assert sorted(names(parts.training)) == names(cases)
    assert parts.held_out == ()


def test_no_annotation_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="has no masks"):
        choose(dataset([case("a", mask=False)]), Split(parts={"a": "training"}))


def test_masks_in_one_part_only_are_told() -> None:
    cases = masked(6)
    parts = choose(cases, Split(parts=dict.fromkeys(names(cases), "training")))
    assert len(parts.training) == 6
    assert len(parts.notes) == 2
    with pytest.raises(InputError, match="0 are there"):
        choose(cases, Split(parts=dict.fromkeys(names(cases), "held-out")))
    with pytest.raises(InputError, match="no training case"):
        choose(cases, Split(parts=dict.fromkeys(names(cases), "validation")))
