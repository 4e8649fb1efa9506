"""Cases, datasets and images by their own words."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from napari_tlseg.data.case import Case, Dataset, Image
from napari_tlseg.data.geometry import Geometry

PHOTO = Geometry(shape=(30, 40), spacing=(1.0, 1.0))
VOLUME = Geometry(shape=(5, 30, 40), spacing=(5.0, 1.0, 1.0))


def case(name="a", image="images/a.png", geometry=PHOTO, **known):
    return Case(name=name, image=Path(image), geometry=geometry, **known)


@pytest.mark.parametrize(
    ("array", "geometry", "shape"),
    [
        (np.zeros((30, 40)), PHOTO, (1, 30, 40, 1)),
        (np.zeros((30, 40, 3)), PHOTO, (1, 30, 40, 3)),
        (np.zeros((5, 30, 40)), VOLUME, (5, 30, 40, 1)),
        (np.zeros((5, 30, 40, 3)), VOLUME, (5, 30, 40, 3)),
    ],
)
def test_planes_of_any_image_have_four_axes_and_share_its_memory(array, geometry, shape):
    planes = Image(array, geometry).planes
    assert planes.shape == shape
    assert np.shares_memory(planes, array)


def test_planes_are_axial_and_upright():
    """Stored (k, j, i) with i towards posterior, j towards inferior, k towards the left."""
    affine = np.array([[0, 0, -2.0, 0], [-1.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
    array = np.arange(24).reshape(2, 3, 4)
    planes = Image(array, Geometry(shape=(2, 3, 4), spacing=(2.0, 3.0, 1.0), unit="mm", affine=affine)).planes[..., 0]
    assert planes.shape == (3, 4, 2)
    assert planes[0, 0, 0] == array[0, 2, 0]  # inferior, anterior, right
    assert planes[-1, -1, -1] == array[1, 0, 3]  # superior, posterior, left


def test_a_page_is_known_by_its_number():
    assert case().key == "a.png"
    assert case("stack#2", "images/stack.tif", page=2).key == "stack.tif#2"


def test_keys_are_spelled_alike_on_every_system():
    composed, decomposed = (unicodedata.normalize(form, "images/müller.png") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert case(image=composed).key == case(image=decomposed).key == "müller.png"


def test_an_unknown_name_is_a_key_error():
    dataset = Dataset(folder=Path("eyes"), cases=(case(),))
    assert dataset["a"] is dataset.cases[0]
    with pytest.raises(KeyError, match="zebra"):
        dataset["zebra"]


def test_the_page_of_a_mask_is_its_own_or_that_of_the_stack():
    page = case("stack#2", "images/stack.tif", page=2)
    assert page.page_of(Path("masks/stack.tif")) == 2
    assert page.page_of(Path("masks/stack#2.png")) is None
    assert case().page_of(Path("masks/a.png")) is None


def test_painted_planes_are_all_unless_said():
    assert list(case(geometry=VOLUME).planes) == [0, 1, 2, 3, 4]
    assert case(geometry=VOLUME, painted=(1, 3)).planes == (1, 3)
    assert list(case().planes) == [0]


def test_a_dataset_knows_what_is_annotated():
    seen = case("b", click=())
    cases = (case(mask=Path("masks/a.png")), seen, case("c", click=(1.0, 2.0)))
    dataset = Dataset(folder=Path("data"), cases=cases)
    assert len(dataset) == 3
    assert [each.name for each in dataset] == ["a", "b", "c"]
    assert dataset["b"] is seen
    assert dataset.labelled == cases[:1]
    assert dataset.clicked == cases[2:]  # 'no target visible' is no click
