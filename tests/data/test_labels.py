"""labels.csv and ontology.toml: what is known of an image, what follows from it, and what cannot be."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.labels import Ontology, read_ontology
from napari_tlseg.errors import InputError
from tiny import write_chests, write_eyes

NAN = math.nan


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return write_eyes(tmp_path / "eyes", 3)


def test_labels_are_read_by_image(eyes: Path) -> None:
    (eyes / "labels.csv").write_text("image, left ,right,old\neye0.png,1,0,\neye2.png,0,,1\n")
    dataset = read_dataset(eyes)
    assert dataset.labels == ("left", "right", "old") and [case.name for case in dataset.tagged] == ["eye0", "eye2"]
    assert repr(dataset["eye0"].tags) == "(1.0, 0.0, nan)" and repr(dataset["eye2"].tags) == "(0.0, nan, 1.0)"
    assert dataset["eye1"].tags is None


def test_what_follows_from_the_ontology_is_filled_in(eyes: Path) -> None:
    (eyes / "ontology.toml").write_text(
        'exclusive = [["left", "right"]]\n[parents]\nnodule = "lesion"\nlesion = "ill"\n'
    )
    (eyes / "labels.csv").write_text("image,left,right,nodule,lesion,ill\neye0.png,1,,1,,\neye1.png,0,,,,0\n")
    dataset = read_dataset(eyes)
    assert dataset["eye0"].tags == (1, 0, 1, 1, 1)
    assert repr(dataset["eye1"].tags) == "(0.0, nan, 0.0, 0.0, 0.0)"


@pytest.mark.parametrize("stated", [*product((0.0, 1.0, NAN), repeat=4)])
def test_completion_is_what_all_possible_worlds_agree_on(stated: tuple[float, ...]) -> None:
    """Against trying every assignment of a, b (exclusive), child and parent that the relations allow."""
    names, ontology = ("a", "b", "child", "parent"), Ontology(parents={"child": "parent"}, exclusive=(("a", "b"),))
    worlds = [
        world
        for world in product((0.0, 1.0), repeat=4)
        if not (world[0] and world[1])
        and world[2] <= world[3]
        and all(math.isnan(known) or known == there for known, there in zip(stated, world, strict=True))
    ]
    given = dict(zip(names, stated, strict=True))
    if not worlds:
        with pytest.raises(ValueError, match="yet"):
            ontology.complete(given)
        return
    agreed = [each[0] if len(set(each)) == 1 else NAN for each in zip(*worlds, strict=True)]
    assert repr(list(ontology.complete(given).values())) == repr(agreed)


def test_groups_are_places_of_labels_that_are_there() -> None:
    ontology = Ontology(exclusive=(("a", "b"), ("c", "x"), ("b", "c", "y")))
    assert ontology.groups(("c", "b", "a")) == [[2, 1], [1, 0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image\neye0.png\n", "its first line reads 'image'; expected image,label,label…"),
        ("file,a\neye0.png,1\n", "its first line reads 'file,a'"),
        ("image,a,a\neye0.png,1,1\n", "its first line reads 'image,a,a'"),
        ("", "its first line reads ''"),
        ("image,a\neye0.png,yes\n", "line 2: a is 'yes'; expected 1"),
        ("image,a\neye9.png,1\n", "line 2: there is no image 'eye9.png'"),
        ("image,a\neye0.png,1\neye0.png,0\n", "line 3: eye0.png appears twice"),
        ("image,a,b\neye0.png,1,1\n", "line 2: eye0.png: a and b exclude each other, yet b is 1; correct the line"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(text: str, said: str, eyes: Path) -> None:
    (eyes / "ontology.toml").write_text('exclusive = [["a", "b"]]\n')
    (eyes / "labels.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_dataset(eyes)
    assert f"labels.csv: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exclusive = 3", "says something else than relations of labels"),
        ('exclusive = [["a"]]', "says something else"),
        ("[parents]\na = 1", "says something else"),
        ("[children]\n", "says something else"),
        ('[parents]\na = "b"\nb = "a"', "makes a a kind of itself"),
        ("[", "cannot be read"),
    ],
)
def test_a_wrong_ontology_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "ontology.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_ontology(tmp_path)


def test_volumes_have_no_labels(tmp_path: Path) -> None:
    chests = write_chests(tmp_path / "chests", 2)
    (chests / "labels.csv").write_text("image,a\nchest0.nii.gz,1\n")
    with pytest.raises(InputError, match="is a volume, labels are of single images"):
        read_dataset(chests)
