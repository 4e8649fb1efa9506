"""Masks as planes: read in any orientation, written on the grid of their image."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_tlseg.data.annotations import mask_path, read_mask, read_roi, verify_mask, write_mask, write_masks
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_geometry
from napari_tlseg.errors import InputError

ODD = np.array([[0, 0, -2.0, 7], [-1.0, 0, 0, 3], [0, -3.0, 0, -5], [0, 0, 0, 1]])  # i posterior, j inferior, k left


def labels_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.png"):
        Pillow.fromarray(np.zeros((12, 20, 3), np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "dataset.toml").write_text('classes = ["background", "disc", "cup"]')
    return read_dataset(tmp_path)


@pytest.fixture
def volume(tmp_path):
    (tmp_path / "images").mkdir()
    image = nib.Nifti1Image(np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2), ODD)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "images" / "ct.nii.gz")
    (tmp_path / "dataset.toml").write_text('classes = ["background", "lung", "infection"]')
    return read_dataset(tmp_path)


def test_a_mask_of_no_case_is_refused_before_any_is_written(photos, tmp_path):
    with pytest.raises(InputError, match="there is no case 'zebra'; its cases have names like 'a'"):
        write_masks(photos, {"a": labels_of((12, 20)), "zebra": labels_of((12, 20))}, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_masks_of_photographs_come_back(photos, tmp_path):
    masks = {"a": labels_of((12, 20)), "b": labels_of((12, 20), 1)}
    paths = write_masks(photos, masks, tmp_path / "masks")
    assert [path.name for path in paths] == ["a.png", "b.png"]
    for case in read_dataset(tmp_path):
        assert (read_mask(case, 3) == masks[case.name]).all()
        assert read_mask(case, 3).shape == (1, 12, 20)


def test_a_mask_of_a_volume_lies_where_its_voxels_do(volume, tmp_path):
    planes = labels_of(volume.cases[0].geometry.plane_shape)
    (path,) = write_masks(volume, {"ct": planes}, tmp_path / "masks")
    written = nib.load(path)
    assert path.name == "ct.nii.gz"
    assert (written.affine == ODD).all()
    stored = np.asarray(written.dataobj)  # (i, j, k)
    for plane, row, column in np.ndindex(planes.shape):  # superior, posterior, left
        assert stored[row, planes.shape[0] - 1 - plane, column] == planes[plane, row, column]
    (case,) = read_dataset(tmp_path)
    assert (read_mask(case, 3) == planes).all()


def test_another_file_on_the_same_grid_can_be_read(photos, tmp_path):
    labels = labels_of((1, 12, 20))
    path = write_mask(photos.cases[0], labels, tmp_path / "found", 3)
    assert (read_mask(photos.cases[0], 3, path) == labels).all()


def test_a_case_without_a_mask_says_so(photos):
    with pytest.raises(ValueError, match="case a has no mask"):
        read_mask(photos.cases[0], 3)


def test_a_mask_of_another_size_is_refused(photos, tmp_path):
    Pillow.fromarray(np.zeros((12, 21), np.uint8)).save(tmp_path / "wrong.png")
    with pytest.raises(InputError, match=r"wrong\.png"):
        read_mask(photos.cases[0], 3, tmp_path / "wrong.png")


def test_a_region_of_interest_may_have_any_value(photos, tmp_path):
    assert read_roi(photos.cases[0]) is None
    inside = np.zeros((12, 20), np.uint8)
    inside[3:9, 4:15] = 255
    (tmp_path / "rois").mkdir()
    Pillow.fromarray(inside).save(tmp_path / "rois" / "a.png")
    roi = read_roi(read_dataset(tmp_path)["a"])
    assert ((roi[0] > 0) == (inside > 0)).all()


def test_the_blur_of_a_jpeg_is_not_inside(photos, tmp_path):
    inside = np.zeros((12, 20), np.uint8)
    inside[3:9, 4:15] = 255
    (tmp_path / "rois").mkdir()
    Pillow.fromarray(inside).save(tmp_path / "rois" / "a.jpg", quality=60)
    assert len(np.unique(Pillow.open(tmp_path / "rois" / "a.jpg"))) > 2
    assert ((read_roi(read_dataset(tmp_path)["a"])[0] > 0) == (inside > 0)).all()


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.jpg", "case.png"),
        ("a.jpeg", "case.png"),
        ("a.PNG", "case.png"),
        ("a.tif", "case.tif"),
        ("a.tiff", "case.tiff"),
        ("a.nii", "case.nii"),
        ("a.NII.GZ", "case.nii.gz"),
    ],
)
def test_a_mask_has_the_format_of_its_image_unless_that_loses_labels(photos, tmp_path, image, mask):
    case = replace(photos.cases[0], name="case", image=tmp_path / image)
    assert mask_path(case, tmp_path) == tmp_path / mask


def test_each_page_of_a_stack_gets_its_own_mask(tmp_path):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "stack.tif", np.zeros((3, 12, 20), np.uint8), photometric="minisblack")
    (tmp_path / "dataset.toml").write_text('pages = "cases"')
    masks = {case.name: labels_of((12, 20), case.page) // 2 for case in read_dataset(tmp_path)}
    assert len(masks) == 3
    write_masks(read_dataset(tmp_path), masks, tmp_path / "masks")
    for case in read_dataset(tmp_path):
        assert (read_mask(case, 2)[0] == masks[case.name]).all()


@pytest.fixture
def stack(tmp_path):
    """A volume in TIFF: (Z, Y, X) of 3, 0.5 and 0.25 mm."""
    (tmp_path / "images").mkdir()
    about = {"axes": "ZYX", "spacing": 3.0, "unit": "mm"}
    array = np.zeros((5, 12, 20), np.uint8)
    tifffile.imwrite(tmp_path / "images" / "ct.tif", array, imagej=True, resolution=(4, 2), metadata=about)
    return read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("image", "format", "mask"),
    [
        ("a.jpg", "png", "case.png"),
        ("a.jpg", "tiff", "case.tif"),
        ("a.jpg", "nifti", "case.nii.gz"),
        ("a.tiff", "tiff", "case.tiff"),
        ("a.tiff", "png", "case.png"),
        ("a.tif", "nifti", "case.nii.gz"),
        ("a.NII", "nifti", "case.nii"),
        ("a.nii.gz", "nifti", "case.nii.gz"),
        ("a.nii.gz", "tiff", "case.tif"),
    ],
)
def test_a_mask_has_the_format_that_was_asked_for(photos, tmp_path, image, format, mask):
    case = replace(photos.cases[0], name="case", image=tmp_path / image)
    assert mask_path(case, tmp_path, format) == tmp_path / mask


def test_png_holds_no_volume(volume, tmp_path):
    with pytest.raises(InputError, match=r"ct\.nii\.gz: is a volume, which PNG cannot hold; choose --format nifti or"):
        mask_path(volume.cases[0], tmp_path, "png")


def test_a_photograph_as_nifti_lies_as_it_did(photos, tmp_path):
    labels = labels_of((1, 12, 20))
    written = nib.load(write_mask(photos["a"], labels, tmp_path, 3, "nifti"))
    assert (np.asarray(written.dataobj).T == labels[0]).all()
    assert (written.affine == np.diag([-1, -1, 1, 1])).all()


def test_a_stack_as_nifti_has_its_spacing_and_shows_the_same_planes(stack, tmp_path):
    labels = labels_of((5, 12, 20))
    path = write_mask(stack["ct"], labels, tmp_path, 3, "nifti")
    written = nib.load(path)
    assert (written.affine == np.diag([-0.25, -0.5, 3, 1])).all() and written.header.get_xyzt_units()[0] == "mm"
    assert (read_geometry(path).to_planes(np.asarray(written.dataobj).T) == labels).all()
    assert (read_mask(stack["ct"], 3, path) == labels).all()


@pytest.mark.parametrize("format", ["auto", "tiff", "nifti"])
@pytest.mark.parametrize("data", ["photos", "stack", "volume"])
def test_what_was_written_is_found_again(data, format, tmp_path, request):
    for case in request.getfixturevalue(data):
        labels = labels_of(case.geometry.plane_shape)
        verify_mask(write_mask(case, labels, tmp_path / "masks", 3, format), case, labels, 3)


def another_voxel(path, case):
    labels = labels_of(case.geometry.plane_shape)
    labels[-1, -1, -1] = (labels[-1, -1, -1] + 1) % 3
    write_mask(case, labels, path.parent, 3, {".nii": "nifti", ".tif": "tiff", ".png": "png"}[path.suffixes[0]])


def half(path, case):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def gone(path, case):
    path.unlink()


def a_bit_further(path, case):
    """The smallest step along x that the header can take."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    (x,) = struct.unpack_from("<f", content, 292)  # the last of srow_x
    struct.pack_into("<f", content, 292, np.nextafter(np.float32(x), np.float32(100)))
    path.write_bytes(gzip.compress(content))
    assert 0 < nib.load(path).affine[0, 3] - ODD[0, 3] < 1e-6


def a_bit_thicker(path, case):
    thick = replace(case, geometry=replace(case.geometry, spacing=(3.001, 0.5, 0.25)))
    write_mask(thick, labels_of(case.geometry.plane_shape), path.parent, 3, "tiff")


def a_row_less(path, case):
    Pillow.fromarray(labels_of((11, 20))).save(path)


@pytest.mark.parametrize(
    ("data", "name", "format", "spoil", "why"),
    [
        ("photos", "a", "png", another_voxel, "holds other labels than were written"),
        ("photos", "a", "png", a_row_less, "is 11 × 20 pixels, its image 12 × 20"),
        ("photos", "a", "png", half, "cannot be read"),
        ("photos", "a", "tiff", gone, "does not exist"),
        ("photos", "a", "nifti", another_voxel, "holds other labels"),
        ("stack", "ct", "tiff", another_voxel, "holds other labels"),
        ("stack", "ct", "tiff", a_bit_thicker, r"has the spacing \(3\.001, .*, its image \(3\.0,"),
        ("volume", "ct", "nifti", another_voxel, "holds other labels"),
        ("volume", "ct", "nifti", a_bit_further, "has another affine than its image"),
        ("volume", "ct", "nifti", half, "cannot be read"),
    ],
)
def test_what_is_found_otherwise_is_not_to_be_trusted(data, name, format, spoil, why, tmp_path, request):
    case = request.getfixturevalue(data)[name]
    labels = labels_of(case.geometry.plane_shape)
    path = write_mask(case, labels, tmp_path / "masks", 3, format)
    verify_mask(path, case, labels, 3)
    spoil(path, case)
    with pytest.raises(InputError, match=f"{path.name}: is not to be trusted: read back, it {why}"):
        verify_mask(path, case, labels, 3)
