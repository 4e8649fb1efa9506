"""That every recipe gives a network what it expects, and that the data picks the right one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from napari_tlseg.data.case import Image
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.letterbox import Box, Letterbox
from napari_tlseg.data.phantoms import chest_ct, fundus, write_chest, write_fundus
from napari_tlseg.data.recipes import (
    CT_LUNG,
    CT_LUNG_3,
    CT_LUNG_3_CLIPPED,
    FUNDUS,
    PLAIN,
    RECIPES,
    find_recipe,
    pick_recipe,
    square_size,
)
from napari_tlseg.errors import InputError


def image_of(array, dimensions=2):
    shape = array.shape[:dimensions]
    return Image(array, Geometry(shape=shape, spacing=(1.0,) * dimensions))


def square_of(recipe, array, size=32, dimensions=2, plane=0):
    (square,) = recipe.squares(image_of(array, dimensions), [plane], size)
    return square


def random(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    low, high = (0, 1) if np.issubdtype(dtype, np.floating) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return (low + (high - low) * rng.random(shape)).astype(dtype)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_squares_are_float32_from_0_to_1(name, dtype):
    recipe = find_recipe(name)
    colour = () if name.startswith("ct") or dtype != np.uint8 else (3,)
    array = random(dtype, (5, 40, 25, *colour))
    if name.startswith("ct") and dtype in (np.uint16, np.float32):
        array = -1000 * (array / array.max()).astype(np.float32)
    image = image_of(array, 3)
    squares = list(recipe.squares(image, [0, 4], 64))
    assert len(squares) == 2
    for square in squares:
        assert square.shape == (recipe.channels(image), 64, 64)
        assert square.dtype == np.float32
        assert 0 <= square.min() and square.max() <= 1
        assert square.max() > 0


def test_the_window_maps_hounsfield_units():
    hu = np.array([[-2000, -1000], [-500, 400]], np.int16)
    assert square_of(CT_LUNG, hu, 2)[0].tolist() == [[0, 0], [0.5, 1]]


@pytest.mark.parametrize(
    ("values", "said"),
    [(random(np.uint16, (40, 50)) // 30, "some 9 to 2173"), (random(np.float32, (40, 50)), "some 0.00"),
     (random(np.uint16, (40, 50)).astype(np.int32) // 60 - 4000, "some -3996 to -2914")],
)  # fmt: skip
def test_values_that_are_not_hu_are_refused_and_not_made_white(tmp_path, values, said):
    tifffile.imwrite(tmp_path / "slice.tif", values)
    image = read_image(tmp_path / "slice.tif")
    with pytest.raises(InputError, match=said) as error:
        next(CT_LUNG.squares(image, [0], 32))
    assert error.value.path == tmp_path / "slice.tif"
    assert "not HU" in str(error.value) and "--recipe plain" in str(error.value)
    assert next(PLAIN.squares(image, [0], 32)).std() > 0.1


@pytest.mark.parametrize("value", [-1024, 0])
def test_a_blank_slice_is_let_through(value):
    assert len(set(square_of(CT_LUNG, np.full((8, 8), value, np.int16), 8).ravel())) == 1


def test_8_bit_slices_count_as_windowed():
    grey = np.array([[0, 51], [102, 255]], np.uint8)
    assert np.allclose(square_of(CT_LUNG, grey, 2)[0], grey / 255)


def test_percentiles_are_those_of_the_whole_volume():
    """One pixel value is one brightness, on every plane."""
    volume = np.stack([np.full((8, 8), value, np.uint16) for value in (100, 1000, 2000, 3000)])
    low, high = PLAIN.limits(image_of(volume, 3))
    means = [square_of(PLAIN, volume, 8, 3, plane).mean() for plane in range(4)]
    assert means == pytest.approx(np.clip((np.array([100, 1000, 2000, 3000]) - low) / (high - low), 0, 1), abs=1e-5)
    assert means == sorted(means)
    assert (means[0], means[3]) == (0, 1)


def test_a_few_wild_pixels_do_not_set_the_scale():
    plane = 20_000 + random(np.uint16, (100, 100)) // 64
    plane[3, 3], plane[50, 60] = 0, 65535
    assert square_of(PLAIN, plane, 100).mean() == pytest.approx(0.5, abs=0.02)
    assert square_of(PLAIN, plane, 100).std() == pytest.approx(12**-0.5, abs=0.02)


def test_a_constant_image_is_black_and_not_a_division_by_zero():
    assert not square_of(PLAIN, np.full((9, 9), 700, np.int16), 9).any()


@pytest.mark.parametrize(("plane", "planes"), [(0, (0, 0, 1)), (2, (1, 2, 3)), (3, (2, 3, 3))])
def test_neighbouring_planes_are_channels(plane, planes):
    volume = np.stack([np.full((4, 4), value, np.int16) for value in (-1000, -800, -500, 0)])
    square = square_of(CT_LUNG_3, volume, 4, 3, plane)
    assert square[:, 0, 0] == pytest.approx([(volume[index, 0, 0] + 1000) / 1000 for index in planes])


def test_the_fundus_recipe_evens_out_the_light_and_keeps_black_black():
    colour = fundus(0, 256).image
    bright, dim = (square_of(FUNDUS, (colour * share).astype(np.uint8), 128) for share in (1.0, 0.7))
    raw = [square_of(replace(FUNDUS, clahe=0, gamma=1), (colour * share).astype(np.uint8), 128) for share in (1, 0.7)]
    assert bright.shape == (1, 128, 128)
    assert np.abs(bright - dim).mean() < 0.5 * np.abs(raw[0] - raw[1]).mean()
    assert not bright[0, :3, :3].any()
    inside = raw[0] > 0.1
    assert bright[inside].std() > raw[0][inside].std()


def test_natives_are_the_whole_plane_before_any_step():
    colour = fundus(0, 128).image
    wide = np.concatenate([colour, colour], axis=1)
    native = next(FUNDUS.natives(image_of(wide), [0]))
    assert native.shape == (128, 256, 1)
    assert (native[..., 0] == cv2.cvtColor(wide.astype(np.float32) / 255, cv2.COLOR_RGB2GRAY)).all()
    volume = np.stack([np.full((4, 6), value, np.int16) for value in (-1000, -800, -500, 0)])
    planes = list(CT_LUNG_3.natives(image_of(volume, 3), [0, 3]))
    assert [plane.shape for plane in planes] == [(4, 6, 3)] * 2
    assert planes[1][0, 0] == pytest.approx([0.5, 1, 1])


def test_a_crop_of_everything_is_the_square_where_contrast_is_not_evened_out():
    plane = random(np.uint8, (40, 40, 3))
    native = next(PLAIN.natives(image_of(plane), [0]))
    frame = Letterbox.around((40, 40), 32, (19.5, 19.5), 40)
    assert (PLAIN.crop(native, frame) == square_of(PLAIN, plane, 32)).all()


@pytest.mark.parametrize("kept", [None, 32])
def test_a_crop_is_stretched_by_what_is_seen_of_it(kept):
    """Grey values from 0.3 to 0.5 fill the middle; around it, seen or not, they are wilder."""
    native = np.clip(np.random.default_rng(0).random((64, 64, 1), np.float32), 0.05, 1)
    native[16:48, 16:48] = 0.3 + 0.2 * native[16:48, 16:48]
    crop = FUNDUS.crop(native, Letterbox.around((64, 64), 64, (31.5, 31.5), 64), kept)
    assert crop.shape == (1, 64, 64) and crop.min() >= 0 and crop.max() <= 1
    low, high = np.percentile(crop[0, 16:48, 16:48], (1, 99))
    if kept:
        assert (low, high) == pytest.approx((0.1, 0.9), abs=1e-3)
    else:
        assert high - low < 0.3
    outside = FUNDUS.crop(native, Letterbox.around((64, 64), 64, (0, 0), 64))
    assert not outside[0, :31, :31].any(), "black stays black"


def test_the_square_lies_where_the_letterbox_says():
    plane = np.zeros((50, 100), np.uint8)
    plane[10:20, 70:90] = 255
    square = square_of(PLAIN, plane, 50)[0]
    y, x = Letterbox((50, 100), 50).point(14.5, 79.5)
    rows, columns = np.nonzero(square > 0.5)
    assert (rows.mean(), columns.mean()) == pytest.approx((y, x), abs=0.01)


def test_colours_are_kept_or_made_grey():
    colour = np.zeros((6, 6, 3), np.uint8)
    colour[..., 0] = 255
    assert square_of(PLAIN, colour, 6)[:, 0, 0].tolist() == [1, 0, 0]
    assert (PLAIN.channels(image_of(colour)), FUNDUS.channels(image_of(colour))) == (3, 1)
    grey = square_of(replace(FUNDUS, clahe=0, gamma=1), colour, 6)
    assert grey[0, 0, 0] == pytest.approx(0.299, abs=1e-3)


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(
        InputError, match="no recipe 'mri'; choose one of fundus, ct-lung, ct-lung-3, ct-lung-3-clipped, plain"
    ):
        find_recipe("mri")


def test_the_folder_that_names_its_modality_is_believed(tmp_path):
    write_fundus(tmp_path, 1, size=64)
    recipe, sentence = pick_recipe(read_dataset(tmp_path))
    assert recipe is FUNDUS
    assert sentence.startswith("Recipe fundus (") and sentence.endswith("dataset.toml says modality = 'fundus'.")


@pytest.mark.parametrize(
    ("modality", "recipe", "said"),
    [
        ("CT", CT_LUNG, "as dataset.toml says modality = 'CT'."),
        (" Fundus", FUNDUS, "as dataset.toml says modality = ' Fundus'."),
        ("x-ray", PLAIN, "as dataset.toml says modality = 'x-ray', which is not known (fundus, ct, ct-slices are); "
         "--recipe names another."),
    ],
)  # fmt: skip
def test_a_modality_is_known_in_any_case_or_said_to_be_unknown(tmp_path, modality, recipe, said):
    Pillow.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "dataset.toml").write_text(f'modality = "{modality}"')
    found, sentence = pick_recipe(read_dataset(tmp_path))
    assert found is recipe
    assert sentence.endswith(said)


@pytest.mark.parametrize("seed", range(4))
def test_a_fundus_photograph_is_recognised(tmp_path, seed):
    Pillow.fromarray(fundus(seed, 200).image).save(tmp_path / "eye.jpg")
    recipe, sentence = pick_recipe(read_dataset(tmp_path))
    assert recipe is FUNDUS
    assert sentence.endswith("judged from eye.jpg; --recipe names another.")


def test_a_chest_ct_is_recognised(tmp_path):
    write_chest(tmp_path, 1, shape=(12, 64, 64))
    (tmp_path / "dataset.toml").unlink()
    assert pick_recipe(read_dataset(tmp_path))[0] is CT_LUNG


@pytest.mark.parametrize(
    "array",
    [
        random(np.uint8, (60, 60, 3)),
        np.full((60, 60, 3), (200, 120, 60), np.uint8),  # red, but not round
        fundus(0, 100).image[..., ::-1],  # round, but blue
        fundus(0, 100).image[..., 1],
    ],
)
def test_other_pictures_are_plain(tmp_path, array):
    Pillow.fromarray(np.ascontiguousarray(array)).save(tmp_path / "some.png")
    assert pick_recipe(read_dataset(tmp_path))[0] is PLAIN


def test_a_volume_without_air_is_no_chest_ct(tmp_path):
    mri = np.abs(chest_ct(0, (8, 32, 32), (5.0, 9.0, 9.0)).image)
    nib.save(nib.Nifti1Image(mri.T, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "head.nii.gz")
    assert pick_recipe(read_dataset(tmp_path))[0] is PLAIN


@pytest.mark.parametrize(
    ("folder", "said", "judged"),
    [
        ("fundus_hei_med", FUNDUS, FUNDUS),
        ("fundus_drions_db", FUNDUS, FUNDUS),
        ("lung_nifti", CT_LUNG, CT_LUNG),
        ("lung_ct_lungsegdb", CT_LUNG, PLAIN),
        ("covid_ct_medseg50", CT_LUNG, PLAIN),
    ],
)
def test_real_folders_get_the_right_recipe(shared_data, folder, said, judged):
    dataset = read_dataset(shared_data / folder)
    assert pick_recipe(dataset)[0] is said
    assert pick_recipe(replace(dataset, modality=None))[0] is judged


@pytest.mark.parametrize("folder", ["fundus_hei_med", "fundus_drions_db"])
def test_real_photographs_are_judged_alike(shared_data, folder):
    dataset = replace(read_dataset(shared_data / folder), modality=None)
    cases = dataset.cases[:: len(dataset) // 8]
    assert {pick_recipe(replace(dataset, cases=(case,)))[0].name for case in cases} == {"fundus"}


def test_real_volumes_fill_the_range(shared_data):
    case = read_dataset(shared_data / "lung_nifti").cases[0]
    middle = case.geometry.plane_shape[0] // 2
    (square,) = CT_LUNG.squares(read_image(case.image), [middle], square_size(CT_LUNG, case))
    assert square.shape == (1, 128, 128)
    assert square.min() == 0
    assert square.max() == pytest.approx(1)
    assert 0.1 < (square < 0.3).mean() < 0.9


@pytest.mark.parametrize(
    ("shape", "recipe", "side"),
    [((600, 400), FUNDUS, 192), ((100, 70), FUNDUS, 128), ((33, 12), PLAIN, 64), ((1, 1), PLAIN, 32)],
)
def test_the_square_is_no_larger_than_the_image_needs(tmp_path, shape, recipe, side):
    Pillow.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "a.png")
    assert square_size(recipe, read_dataset(tmp_path).cases[0]) == side


def body_in_air(rng, shape, box):
    """(Z, Y, X) in HU: noisy air, and a body that fills the box in one plane at least."""
    volume = rng.normal(-1000, 20, shape)
    planes = slice(0, rng.integers(1, shape[0] + 1))
    volume[planes, box.top : box.top + box.height, box.left : box.left + box.width] = rng.uniform(
        -700, 300, (planes.stop, box.height, box.width)
    )
    if box.top > 2:  # the table
        volume[planes, 0, : box.height * box.width // 12] = 200
    return volume.round().astype(np.int16)


sides = st.integers(1, 40)


@given(st.integers(1, 3), sides, sides, st.tuples(sides, sides, sides, sides), st.integers(0, 99))
def test_the_air_around_a_body_is_clipped_and_masks_come_back_exactly(depth, height, width, rims, seed):
    """At the body's own resolution nothing within it is changed, and outside of it nothing is found."""
    rng, box = np.random.default_rng(seed), Box(rims[0], rims[1], height, width)
    shape = (depth, height + rims[0] + rims[2], width + rims[1] + rims[3])
    image, size = image_of(body_in_air(rng, shape, box), 3), max(height, width)
    frame = CT_LUNG_3_CLIPPED.frame(image, size)
    assert frame.box == box
    inside = (slice(box.top, box.top + height), slice(box.left, box.left + width))
    squares = list(CT_LUNG_3_CLIPPED.squares(image, range(depth), size))
    for plane, square in enumerate(squares):
        expected = ((image.array[plane][inside] + np.float32(1000)) / np.float32(1000)).clip(0, 1)
        np.testing.assert_array_equal(square[1][frame.window], expected)
        assert square.shape == (3, size, size)
    mask = np.zeros(shape[1:], np.uint8)
    mask[inside] = rng.integers(0, 3, (height, width))
    chances = np.stack([frame.labels(mask) == label for label in range(3)]).astype(np.float32)
    np.testing.assert_array_equal(frame.native(chances).argmax(axis=0), mask)


def test_where_all_is_air_nothing_is_clipped():
    image = image_of(np.full((2, 20, 30), -1000, np.int16), 3)
    assert CT_LUNG_3_CLIPPED.frame(image, 32) == Letterbox((20, 30), 32)
    assert CT_LUNG_3.frame(image, 32) == Letterbox((20, 30), 32)


def test_a_phantom_chest_loses_its_air_and_none_of_its_body():
    volume = chest_ct((0, 0), (3, 96, 96))
    box = CT_LUNG_3_CLIPPED.frame(image_of(volume.image, 3), 96).box
    assert box.height * box.width < 0.9 * 96 * 96
    kept = np.zeros((96, 96), bool)
    kept[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert kept[(volume.mask > 0).any(axis=0)].all()
