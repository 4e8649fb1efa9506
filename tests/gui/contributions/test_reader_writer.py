"""Files as layers, in the patient's own space, and Labels layers as files on the grid of their image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from npe2 import PluginManager
from PIL import Image as Pillow

from napari_tlseg.data.case import Case
from napari_tlseg.data.formats import read_geometry, read_image, read_labels
from napari_tlseg.errors import InputError
from napari_tlseg.gui.canvas.layers import CASE, LayerData, case_of, image_layer, labels_layer, stored
from napari_tlseg.gui.contributions.reader import get_reader
from napari_tlseg.gui.contributions.writer import write_nifti, write_png, write_tiff

if TYPE_CHECKING:
    from napari import Viewer

PLUGIN = "napari-tlseg"
TURNS = [np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
ORIENTATIONS = {"RAS": TURNS[0], "LPS": TURNS[6], "sagittal": TURNS[27], "coronal": TURNS[13]}
SPACING = (0.7, 0.8, 2.5)


def affine_of(turn: np.ndarray, origin: tuple[float, ...] = (-20.0, 30.5, -700.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * SPACING, origin
    return affine


def hu(seed: int = 0) -> np.ndarray:
    """(i, j, k)."""
    return np.random.default_rng(seed).integers(-1000, 400, (6, 7, 5)).astype(np.int16)


def save_nifti(path: Path, turn: np.ndarray, array: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(hu() if array is None else array, affine_of(turn)), path)
    return path


def save_dicom(folder: Path, turn: np.ndarray) -> Path:
    """One multi-frame file; its directions are LPS."""
    folder.mkdir()
    image = sitk.GetImageFromArray(hu().T)
    image.SetSpacing(SPACING)
    image.SetOrigin((20.0, -30.5, -700.0))
    lps = np.diag([-1, -1, 1]) @ turn
    if np.linalg.det(lps) < 0:
        raise ValueError("DICOM directions are right-handed")
    image.SetDirection(lps.ravel().tolist())
    image.SetMetaData("0008|0060", "CT")
    sitk.WriteImage(image, str(folder / "1.dcm"))
    return folder


def labels_of(layer: LayerData | Any, seed: int = 1) -> np.ndarray:
    shape = layer[0].shape if isinstance(layer, tuple) else layer.data.shape
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


def written(path: Path, layer: LayerData) -> Path:
    assert write_nifti(str(path), *layer[:2]) == [str(path)]
    return path


@given(turn=st.sampled_from(TURNS), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_the_world_is_the_patient(turn: np.ndarray, seed: int) -> None:
    """The value at a place of the body, in mm to superior, posterior and left."""
    with TemporaryDirectory() as folder:
        data, about, kind = image_layer(save_nifti(Path(folder, "a.nii"), turn))
    ijk = np.random.default_rng(seed).integers(0, (6, 7, 5))
    right, anterior, superior = nib.affines.apply_affine(affine_of(turn), ijk)
    index = (np.array([superior, -anterior, -right]) - about["translate"]) / about["scale"]
    np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
    assert data[tuple(np.rint(index).astype(int))] == hu()[tuple(ijk)]
    assert (kind, about["name"], about["units"]) == ("image", "a", ("mm",) * 3)
    assert about["contrast_limits"] == (-1000, 400)


def test_the_middle_of_an_oblique_volume_is_where_it_belongs(tmp_path: Path) -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    data, about, _ = image_layer(save_nifti(tmp_path / "a.nii.gz", turn))
    right, anterior, superior = nib.affines.apply_affine(affine_of(turn), (2.5, 3, 2))
    middle = np.array(about["translate"]) + about["scale"] * (np.array(data.shape) - 1) / 2
    np.testing.assert_allclose(middle, [superior, -anterior, -right], atol=1e-4)


def test_a_coronal_slice_lies_along_its_own_axes(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", TURNS[0], hu()[:, 2:3])
    data, about, _ = image_layer(path)
    assert data.shape == (1, 5, 6)
    right, anterior, superior = affine_of(TURNS[0])[:3, 3]
    corner = [-anterior, -(superior + 4 * SPACING[2]), -(right + 5 * SPACING[0])]
    np.testing.assert_allclose(about["translate"], corner, atol=1e-4)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".tif"])
@given(turn=st.sampled_from(TURNS))
@settings(max_examples=8)
def test_labels_come_back_on_the_grid_of_their_image(ending: str, turn: np.ndarray) -> None:
    with TemporaryDirectory() as folder:
        path = save_nifti(Path(folder, "a.nii.gz"), turn)
        image = image_layer(path)
        planes = labels_of(image)
        mask = written(Path(folder, "m" + ending), labels_layer(planes, image))
        geometry = read_geometry(path)
        np.testing.assert_array_equal(geometry.to_planes(read_labels(mask, geometry, 3)), planes)
        if ending != ".tif":
            np.testing.assert_array_equal(nib.load(mask).affine, nib.load(path).affine)
            assert nib.load(mask).shape == nib.load(path).shape
            assert nib.load(mask).get_data_dtype() == np.uint8


@pytest.mark.parametrize("turn", [TURNS[0], TURNS[6], TURNS[10]])
def test_labels_of_a_dicom_series_are_nifti(tmp_path: Path, turn: np.ndarray) -> None:
    if np.linalg.det(turn) < 0:
        turn = turn * (1, 1, -1)
    folder = save_dicom(tmp_path / "chest", turn)
    image = image_layer(folder)
    assert image[1]["name"] == "chest"
    labels = labels_of(image)
    mask = written(tmp_path / "m.nii.gz", labels_layer(labels, image))
    geometry = read_geometry(folder)
    np.testing.assert_array_equal(geometry.to_planes(read_labels(mask, geometry, 3)), labels)
    np.testing.assert_allclose(nib.load(mask).affine, affine_of(turn), atol=1e-4)


def test_a_photograph_and_its_mask(tmp_path: Path) -> None:
    path = tmp_path / "eye.png"
    colours = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    Pillow.fromarray(colours).save(path)
    image = image_layer(path)
    assert image[0].shape == (8, 9, 3) and image[1]["rgb"] and image[1]["units"] == ("pixel", "pixel")
    labels = np.random.default_rng(0).integers(0, 3, (1, 8, 9))
    layer = labels_layer(labels, image)
    assert layer[0].shape == (8, 9)
    for ending in (".png", ".tif"):
        mask = written(tmp_path / ("m" + ending), layer)
        np.testing.assert_array_equal(read_labels(mask, read_geometry(path), 3), labels[0])
    assert sorted(np.unique(np.array(Pillow.open(tmp_path / "m.png")))) == [0, 1, 2]


def test_a_page_of_a_stack(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 8, 9), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    path = tmp_path / "s.tif"
    data, about, _ = image_layer(Case(name="s#1", image=path, page=1, geometry=read_geometry(path, 1)))
    np.testing.assert_array_equal(data, stack[1])
    assert about["name"] == "s#1"


def test_a_layer_of_labels_lies_on_its_image_and_keeps_its_own_notes(tmp_path: Path) -> None:
    image = image_layer(save_nifti(tmp_path / "a.nii", TURNS[27]))
    layer = labels_layer(labels_of(image), image, name="lung")
    assert layer[1]["name"] == "lung" and "contrast_limits" not in layer[1]
    assert all(layer[1][key] == image[1][key] for key in ("scale", "translate", "units"))
    assert case_of(layer) is case_of(image)
    layer[1]["metadata"][CASE] = None
    assert case_of(image) is not None


def test_a_mask_outlives_its_image(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", TURNS[27])
    layer = labels_layer(np.ones_like(image_layer(path)[0]), image_layer(path))
    path.unlink()
    mask = written(tmp_path / "m.nii.gz", layer)
    np.testing.assert_allclose(nib.load(mask).affine, affine_of(TURNS[27]), atol=1e-4)


@pytest.mark.parametrize(
    ("about", "spacing", "unit"),
    [
        ({"scale": (2.5, 0.8, 0.7)}, (2.5, 0.8, 0.7), "mm"),
        ({"scale": (1, 1, 1), "units": ("pixel",) * 3}, (1, 1, 1), "px"),
        ({"scale": (0.25, 0.08, 0.07), "units": ("cm",) * 3}, (2.5, 0.8, 0.7), "mm"),
        ({}, (1, 1, 1), "px"),
    ],
)
def test_without_a_case_the_scale_is_the_spacing(
    tmp_path: Path, about: dict[str, Any], spacing: tuple[float, ...], unit: str
) -> None:
    layer = (np.random.default_rng(0).integers(0, 9, (4, 5, 6)), about, "labels")
    found = stored(layer)
    assert found.geometry.unit == unit and found.source is None
    np.testing.assert_allclose(found.geometry.spacing, spacing)
    for ending in (".nii.gz", ".tif"):
        again = read_image(written(tmp_path / ("m" + ending), layer))
        np.testing.assert_array_equal(again.array, layer[0])
        np.testing.assert_allclose(again.geometry.spacing, spacing, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.full((7, 5, 6), 256), "holds the label 256"),
        (np.full((7, 5, 6), -1), "holds the label -1"),
        (np.zeros((2, 7, 5, 6), int), "4 dimensions"),
    ],
)
def test_what_no_mask_can_hold_is_refused(tmp_path: Path, labels: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        write_nifti(str(tmp_path / "m.nii.gz"), labels, {"name": "painted"})
    assert not list(tmp_path.iterdir())


def test_labels_of_another_size_than_their_image_are_refused(tmp_path: Path) -> None:
    about = image_layer(save_nifti(tmp_path / "a.nii", TURNS[0]))[1]
    with pytest.raises(InputError, match=r"'painted' is 4 × 4 × 4 pixels, but its image a\.nii is 5 × 7 × 6"):
        stored((np.zeros((4, 4, 4), int), {"name": "painted", "metadata": about["metadata"]}, "labels"))


def test_the_image_is_not_replaced_by_its_mask(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", TURNS[0])
    before = path.read_bytes()
    image = image_layer(path)
    with pytest.raises(InputError, match="is the image itself"):
        write_nifti(str(path), *labels_layer(labels_of(image), image)[:2])
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["m.png", "m.jpg", "m.dcm"])
def test_a_format_that_cannot_hold_a_volume_is_refused(tmp_path: Path, name: str) -> None:
    image = image_layer(save_nifti(tmp_path / "a.nii", TURNS[0]))
    with pytest.raises(InputError, match=name):
        write_nifti(str(tmp_path / name), *labels_layer(labels_of(image), image)[:2])


@pytest.mark.parametrize(("write", "ending"), [(write_nifti, ".nii.gz"), (write_tiff, ".tif"), (write_png, ".png")])
def test_a_name_without_an_ending_gets_one(tmp_path: Path, write: Callable[..., list[str]], ending: str) -> None:
    """And replaces nothing that the dialog did not ask about."""
    labels = np.ones((4, 5), np.uint8)
    (path,) = write(str(tmp_path / "patient.1"), labels, {})
    assert path == str(tmp_path / f"patient.1{ending}")
    np.testing.assert_array_equal(read_image(Path(path)).array, labels)
    with pytest.raises(InputError, match="exists already"):
        write(str(tmp_path / "patient.1"), labels, {})
    write(path, labels, {})


def test_what_is_opened(tmp_path: Path) -> None:
    ours = [save_nifti(tmp_path / "A.NII.GZ", TURNS[0]), save_dicom(tmp_path / "series", TURNS[0])]
    assert all(get_reader(str(path)) for path in [*ours, tmp_path / "series" / "1.dcm"])
    assert get_reader([str(ours[0])] * 2) is None
    assert get_reader(str(tmp_path)) is None and get_reader(str(tmp_path / "a.png")) is None


def test_the_manifest_offers_them(tmp_path: Path) -> None:
    manager = PluginManager.instance()
    manager.discover()
    for name in ("a.nii", "b.c.nii.gz", "d.DCM", ""):
        readers = manager.iter_compatible_readers([str(tmp_path / name)])
        assert PLUGIN in {reader.plugin_name for reader in readers}, name
    for name in ("m.nii", "m.nii.gz", "m.tif", "m.png", "m"):
        writer, path = manager.get_writer(str(tmp_path / name), ["labels"], plugin_name=PLUGIN)
        assert writer is not None and path.endswith(tuple(writer.filename_extensions))


@pytest.mark.window
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_painted_on_and_saved(viewer: Viewer, tmp_path: Path, orientation: str) -> None:
    """As a user does: open, new labels, paint, save; the layer that napari makes knows nothing of the file."""
    path = save_nifti(tmp_path / "a.nii.gz", ORIENTATIONS[orientation])
    (image,) = viewer.open(path, plugin=PLUGIN)
    assert {str(unit) for unit in image.units} == {"millimeter"}
    viewer.layers.selection.active = image
    viewer._new_labels()
    labels = viewer.layers[-1]
    labels.data = labels_of(labels)
    viewer.layers.selection = {labels}
    saved = viewer.layers.save(tmp_path / "m.nii.gz", selected=True, plugin=PLUGIN)
    assert saved == [str(tmp_path / "m.nii.gz")]
    geometry = read_geometry(path)
    np.testing.assert_array_equal(geometry.to_planes(read_labels(tmp_path / "m.nii.gz", geometry, 3)), labels.data)
    np.testing.assert_array_equal(nib.load(tmp_path / "m.nii.gz").affine, nib.load(path).affine)
    (again,) = viewer.open(tmp_path / "m.nii.gz", plugin=PLUGIN, layer_type="labels")
    np.testing.assert_array_equal(again.data, labels.data)
    np.testing.assert_allclose(again.translate, labels.translate)


@pytest.mark.window
def test_two_scans_of_a_patient_lie_over_each_other(viewer: Viewer, tmp_path: Path) -> None:
    """The same body, stored in two ways, as NIfTI and as DICOM: each place shows the same value."""
    (one,) = viewer.open(save_dicom(tmp_path / "b", TURNS[0] * (-1, -1, 1)), plugin=PLUGIN)
    flipped = nib.Nifti1Image(hu(), read_geometry(tmp_path / "b").affine).as_reoriented([[1, -1], [2, 1], [0, 1]])
    nib.save(flipped, tmp_path / "a.nii")
    (two,) = viewer.open(tmp_path / "a.nii", plugin=PLUGIN)
    np.testing.assert_array_equal(one.data, two.data)
    np.testing.assert_allclose(one.extent.world, two.extent.world, atol=1e-3)
    for index in [(0, 0, 0), (4, 6, 5), (2, 1, 3)]:
        there = np.rint(two.world_to_data(one.data_to_world(index))).astype(int)
        assert two.data[tuple(there)] == one.data[index]


@pytest.mark.window
def test_a_layer_saves_itself(viewer: Viewer, tmp_path: Path) -> None:
    image = image_layer(save_nifti(tmp_path / "a.nii", TURNS[13]))
    (shown,) = viewer._add_layer_from_data(*image)
    (layer,) = viewer._add_layer_from_data(*labels_layer(labels_of(image), shown))
    assert layer.data.dtype == np.uint8 and case_of(layer) is case_of(shown)
    assert layer.save(str(tmp_path / "m.nii"), plugin=PLUGIN)
    geometry = read_geometry(tmp_path / "a.nii")
    np.testing.assert_array_equal(geometry.to_planes(read_labels(tmp_path / "m.nii", geometry, 3)), layer.data)


@pytest.mark.window
def test_nifti_is_written_by_us_unasked(viewer: Viewer, tmp_path: Path) -> None:
    (image,) = viewer.open(save_nifti(tmp_path / "a.nii", TURNS[13]), plugin=PLUGIN)
    layer = viewer.add_labels(labels_of(image), scale=image.scale, translate=image.translate, units=image.units)
    assert layer.save(str(tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(nib.load(tmp_path / "m.nii.gz").affine, nib.load(tmp_path / "a.nii").affine)


@pytest.mark.window
def test_a_file_that_cannot_be_read_is_told_in_a_sentence(viewer: Viewer, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "cut.nii", TURNS[0])
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match=r"cut\.nii: cannot be read"):
        viewer.open(path, plugin=PLUGIN)
    assert not viewer.layers
