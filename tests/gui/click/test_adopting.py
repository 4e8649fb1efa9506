"""Open layers become a dataset; the layers stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer, Points, Shapes

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Dataset
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.errors import InputError
from napari_tlseg.gui.canvas.layers import image_layer
from napari_tlseg.gui.click import adopting
from napari_tlseg.gui.click.adopting import adopt_layers, gather
from napari_tlseg.gui.contributions.sample_data import chest_ct_phantom, fundus_phantoms
from tiny import write_chests, write_eyes

pytestmark = pytest.mark.window  # a layer needs Qt, though it shows none
RNG = np.random.default_rng(0)


def noise(*shape: int, dtype: Any = np.uint8) -> Any:
    return RNG.integers(0, 255, shape).astype(dtype)


def adopt(tmp_path: Path, *layers: Layer) -> Dataset:
    return read_dataset(adopt_layers(gather(layers), tmp_path / "project"))


def names(dataset: Dataset) -> list[str]:
    return [case.name for case in dataset]


def test_the_fundus_sample_with_its_discs_and_clicks(tmp_path: Path) -> None:
    layers = [Layer.create(*each) for each in fundus_phantoms(3)]
    dataset = adopt(tmp_path, *layers)
    assert names(dataset) == [f"fundus_phantoms-{number:03}" for number in range(3)]
    photographs, discs, clicks = (layer.data for layer in layers)
    for index, case in enumerate(dataset):
        np.testing.assert_array_equal(read_image(case.image).array, photographs[index])
        np.testing.assert_array_equal(read_mask(case, 2)[0], discs[index])
        assert case.click == tuple(clicks[index][1:])
    assert dataset.classes == ("background", "target")


def test_the_chest_sample_keeps_units_and_classes(tmp_path: Path) -> None:
    image, labels = (Layer.create(*each) for each in chest_ct_phantom())
    labels.data[: len(labels.data) // 3] = 0
    case = adopt(tmp_path, image, labels).cases[0]
    assert case.geometry.unit == "mm" and case.geometry.plane_spacing == pytest.approx(tuple(image.scale))
    np.testing.assert_array_equal(read_image(case.image).planes[..., 0], image.data)
    dataset = read_dataset(tmp_path / "project")
    assert dataset.classes == ("background", "class 1", "class 2")
    np.testing.assert_array_equal(read_mask(case, 3), labels.data)
    painted = np.flatnonzero(labels.data.any(axis=(1, 2)))
    assert list(case.planes) == list(painted), "a slice without paint does not count as painted"


@pytest.mark.parametrize(
    ("data", "about", "expected"),
    [
        (noise(6, 7, 3), {"rgb": True}, ["scan"]),
        (noise(6, 7, 4), {"rgb": True}, ["scan"]),
        (noise(6, 7), {}, ["scan"]),
        (noise(2, 6, 7), {}, ["scan-000", "scan-001"]),
        (noise(2, 6, 7, 3), {"rgb": True}, ["scan-000", "scan-001"]),
        (noise(1, 6, 7, 3), {"rgb": True}, ["scan-000"]),
        (noise(2, 6, 7, dtype=np.uint16), {}, ["scan-000", "scan-001"]),
        (RNG.random((6, 7, 3)), {"rgb": True}, ["scan"]),
        (RNG.random((6, 7)), {}, ["scan"]),
        (RNG.random((6, 7)) > 0.5, {}, ["scan"]),
        (noise(6, 7, dtype=np.int64), {}, ["scan"]),
        (noise(2, 6, 7, dtype=np.int16) * 4 - 1000, {}, ["scan"]),
        (noise(2, 6, 7), {"scale": (5, 0.7, 0.7), "units": "mm"}, ["scan"]),
        (noise(2, 6, 7), {"scale": (5, 0.7, 0.7)}, ["scan"]),
    ],
    ids=[
        *("rgb", "rgba", "grey", "stack", "rgb stack", "stack of one", "16 bit", "float rgb", "float", "bool"),
        *("int64", "ct", "mm", "scaled"),
    ],
)
def test_every_kind_of_image_can_be_read_back(tmp_path: Path, data: Any, about: Any, expected: list[str]) -> None:
    dataset = adopt(tmp_path, Image(data, name="scan", **about))
    assert names(dataset) == expected
    array = np.asarray(data)
    if about.get("rgb"):
        array = array[..., :3]
        array = (array * 255).round() if array.dtype.kind == "f" else array
    read = [read_image(case.image).planes for case in dataset]
    together = np.concatenate(read).reshape(array.shape)
    np.testing.assert_allclose(together, array, rtol=1e-6)


def test_a_stack_that_is_read_piece_by_piece(tmp_path: Path) -> None:
    data = noise(2, 6, 7)
    with dask.config.set(scheduler="synchronous"):
        dataset = adopt(tmp_path, Image(da.from_array(data), name="scan"))
    np.testing.assert_array_equal([read_image(case.image).array for case in dataset], data)


def test_a_file_of_ours_is_linked_to_and_keeps_its_geometry(tmp_path: Path) -> None:
    case = read_dataset(write_chests(tmp_path / "chests", count=1)).cases[0]
    layer = Layer.create(*image_layer(case))
    point = Points([layer.data_to_world((2, 11, 13))])
    adopted = adopt(tmp_path, layer, point).cases[0]
    assert adopted.name == "chest0" and adopted.image.resolve() == case.image
    np.testing.assert_array_equal(adopted.geometry.affine, case.geometry.affine)
    assert adopted.geometry.point_to_planes(adopted.click) == pytest.approx((2, 11, 13)), "placed by the world"


def test_two_images_of_one_name_and_of_one_size_are_told_apart(tmp_path: Path) -> None:
    one, two = (write_eyes(tmp_path / name, count=1) / "images" / "eye0.png" for name in ("one", "two"))
    layers = [
        *(Layer.create(*image_layer(one)), Labels(np.full((48, 64), 1)), Points([[3, 4], [5, 6]])),
        *(Layer.create(*image_layer(two)), Points([[7, 8]]), Image(noise(48, 64), name="eye0")),
    ]
    dataset = adopt(tmp_path, *layers)
    cases = [dataset[name] for name in ("eye0", "eye0-2", "eye0-3")]
    assert len(dataset) == 3 and [case.image.resolve() for case in cases[:2]] == [one, two]
    assert [case.mask is not None for case in cases] == [True, False, False], "the labels lie on the first"
    assert [case.click for case in cases] == [(3, 4), (7, 8), None]


def test_what_is_no_annotation_of_the_image_is_left_out(tmp_path: Path) -> None:
    image = Image(noise(6, 7), name="a/b: c")
    others = [
        *(Labels(np.ones((9, 9), int)), Points([[50, 50], [-3, 2]]), Points([[1, 2, 3]]), Points(ndim=2)),
        *(Shapes([[0, 0], [2, 2]]), Image([noise(8, 8), noise(4, 4)], multiscale=True), Image(noise(2, 3, 4, 5))),
    ]
    dataset = adopt(tmp_path, image, *others)
    assert names(dataset) == ["a_b_c"]
    assert dataset.cases[0].mask is None and dataset.cases[0].click is None
    assert not gather(others)


def test_objects_are_no_classes(tmp_path: Path) -> None:
    image, objects = Image(noise(6, 7)), Labels(np.arange(42).reshape(6, 7))
    with pytest.raises(InputError, match="number its classes"):
        adopt(tmp_path, image, objects)
    assert not (tmp_path / "project").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        adopt(tmp_path, Image(noise(6, 7)))
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["mine.txt"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(adopting, "write_mask", full)
    layers = Image(noise(6, 7)), Labels(np.ones((6, 7), int))
    with pytest.raises(OSError, match="no space"):
        adopt(tmp_path, *layers)
    assert list((tmp_path / "project").iterdir()) == []
    monkeypatch.undo()
    assert len(adopt(tmp_path, *layers).labelled) == 1


def test_the_layers_are_not_changed(tmp_path: Path) -> None:
    layers = [Layer.create(*each) for each in fundus_phantoms(1)]
    before = [np.array(layer.data) for layer in layers]
    adopt(tmp_path, *layers)
    for layer, data in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.data, data)
