"""Phantoms are reproducible, anatomically plausible, and make dataset folders that can be read."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import center_of_mass, grey_closing, label

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_image, read_labels
from napari_tlseg.data.phantoms import ChestPhantom, FundusPhantom, chest_ct, fundus, write_chest, write_fundus
from napari_tlseg.data.phantoms.frame import Centre

SEEDS = range(12)


@pytest.fixture(scope="module")
def photographs() -> list[FundusPhantom]:
    return [fundus(seed, 256) for seed in SEEDS]


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return chest_ct(0, extent=0.7)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_fundus_is_its_seed() -> None:
    one, again, other = fundus(3, 128), fundus(3, 128), fundus(4, 128)
    assert one.image.tobytes() == again.image.tobytes() and one.mask.tobytes() == again.mask.tobytes()
    assert one.click == again.click
    assert np.abs(one.image.astype(int) - other.image).mean() > 5


def test_fundus_arrays(photographs: list[FundusPhantom]) -> None:
    for photo in photographs:
        assert photo.image.shape == (256, 256, 3) and photo.image.dtype == np.uint8
        assert photo.mask.shape == (256, 256) and photo.mask.dtype == np.uint8
        assert set(np.unique(photo.mask)) == {0, 1}


def test_the_disc_is_one_round_piece_of_plausible_size(photographs: list[FundusPhantom]) -> None:
    for photo in photographs:
        assert label(photo.mask)[1] == 1
        height, width = (np.ptp(where) + 1 for where in np.nonzero(photo.mask))
        assert 0.08 < width / 256 < 0.2
        assert 0.85 < height / width < 1.35
        assert photo.mask.sum() / (np.pi / 4 * height * width) > 0.9


def test_the_click_is_the_centre_of_mass(photographs: list[FundusPhantom]) -> None:
    for photo in photographs:
        assert photo.click == pytest.approx(center_of_mass(photo.mask))
        assert photo.mask[round(photo.click[0]), round(photo.click[1])] == 1


def test_the_disc_is_brighter_than_what_is_around_it(photographs: list[FundusPhantom]) -> None:
    y, x = np.indices((256, 256))
    for photo in photographs:
        distance = np.hypot(y - photo.click[0], x - photo.click[1])
        around = (distance < 50) & (distance > 30) & (photo.image[..., 0] > 25)
        assert np.median(photo.image[photo.mask == 1, 1]) > 1.1 * np.median(photo.image[around, 1])


def test_the_field_of_view_is_dark_outside_and_red_inside(photographs: list[FundusPhantom]) -> None:
    y, x = np.indices((256, 256)) - 127.5
    for photo in photographs:
        outside, inside = photo.image[np.hypot(y, x) > 145], photo.image[np.hypot(y, x) < 70]
        assert outside.max() < 20
        red, green, blue = inside.mean(0)
        assert red > green > 0.9 * blue and red > 30
        assert photo.mask[np.hypot(y, x) > 128].sum() == 0


def test_vessels_are_dark_and_thin() -> None:
    """In green, what a closing of 15 px fills in is vessels: some percent of the field, and all over it."""
    green = fundus(1, centre="macula").image[..., 1].astype(float)
    filled = grey_closing(green, (15, 15)) - green
    share = (filled > 0.15 * green.max())[100:400, 100:400].mean()
    assert 0.005 < share < 0.3


@pytest.mark.parametrize("centre", ["macula", "disc"])
def test_eye_and_centre_are_where_they_were_asked_for(centre: Centre) -> None:
    for seed in range(3):
        left = fundus(seed, 128, eye="left", centre=centre)
        right = fundus(seed, 128, eye="right", centre=centre)
        assert (left.eye, right.eye) == ("left", "right")
        if centre == "macula":
            assert left.click[1] < 50 and right.click[1] > 78
        else:
            assert abs(left.click[1] - 64) < 12 and abs(right.click[1] - 64) < 12


def test_the_cup_lies_in_the_disc_and_moves_nothing() -> None:
    for seed in range(4):
        plain, cupped = fundus(seed, 128), fundus(seed, 128, cup=True)
        assert np.array_equal(plain.mask > 0, cupped.mask > 0) and plain.click == cupped.click
        assert np.array_equal(plain.image, cupped.image)
        assert 0.05 < (cupped.mask == 2).sum() / (cupped.mask > 0).sum() < 0.6


@pytest.mark.parametrize("size", [64, 192, 513])
def test_the_size_scales_the_picture_and_not_the_anatomy(size: int) -> None:
    photo, reference = fundus(5, size), fundus(5, 256)
    assert photo.image.shape == (size, size, 3)
    assert np.array(photo.click) / size == pytest.approx(np.array(reference.click) / 256, abs=0.01)


def test_a_chest_is_its_seed() -> None:
    shape = (16, 64, 64)
    one, again, other = chest_ct(3, shape), chest_ct(3, shape), chest_ct(4, shape)
    assert one.image.tobytes() == again.image.tobytes() and one.mask.tobytes() == again.mask.tobytes()
    assert np.array_equal(one.affine, again.affine)
    assert np.abs(one.image.astype(int) - other.image).mean() > 20


def test_chest_arrays_and_geometry(chest: ChestPhantom) -> None:
    assert chest.image.shape == chest.mask.shape == (48, 128, 128)
    assert chest.image.dtype == np.int16 and chest.mask.dtype == np.uint8
    assert nib.affines.voxel_sizes(chest.affine) == pytest.approx(chest.spacing[::-1])
    assert nib.aff2axcodes(chest.affine) == ("L", "P", "S")
    planes = chest.geometry.to_planes(chest.image)
    assert np.array_equal(planes, chest.image)
    middle = chest.affine @ (63.5, 63.5, 23.5, 1)
    assert np.abs(middle[:3]).max() < 200


def test_hounsfield_units_of_the_tissues(chest: ChestPhantom) -> None:
    hu, lung = chest.image, chest.mask == 1
    assert -1024 <= hu.min() and hu.max() <= 3071
    assert np.median(hu[:, :6, 60:70]) == pytest.approx(-1000, abs=25)
    assert -900 < np.median(hu[lung]) < -800
    assert -720 < np.median(hu[chest.mask == 2]) < -100
    body = hu[24, 20:100, 20:108]
    assert ((body > 0) & (body < 220)).mean() > 0.12  # muscle, blood
    assert ((body > -130) & (body < -40)).mean() > 0.03  # fat
    assert 0.003 < (hu > 300).mean() < 0.06  # bone


def test_lungs_are_two_and_shrink_to_the_apex(chest: ChestPhantom) -> None:
    lungs = chest.mask > 0
    middle = label(lungs[24])[0]
    areas = np.sort(np.bincount(middle.ravel())[1:])[::-1]
    assert areas[1] > 0.4 * areas[0]
    area = lungs.sum((1, 2))
    assert area[-2] < 0.4 * area[24]
    litres = lungs.sum() * np.prod(chest.spacing) / 1e6
    assert 2 < litres < 7


def test_the_heart_is_on_the_left() -> None:
    """Where the affine says that left is: there is less lung in the slices of the heart."""
    for seed in range(3):
        volume = chest_ct(seed, (24, 64, 64))
        assert volume.affine[0, 0] < 0  # x rises to the left
        right, left = np.split(volume.mask[7:11] > 0, 2, axis=2)
        assert left.sum() < 0.95 * right.sum()


def test_infection_lies_in_the_lungs_and_follows_the_extent() -> None:
    shape = (24, 64, 64)
    shares = []
    for extent in (0.0, 0.2, 0.9):
        volume = chest_ct(7, shape, extent=extent)
        shares.append((volume.mask == 2).sum() / (volume.mask > 0).sum())
    healthy = chest_ct(7, shape, extent=0.0).mask > 0
    assert np.array_equal(healthy, volume.mask > 0)
    assert shares[0] == 0 < 0.005 < shares[1] < shares[2] < 0.7


def test_the_trachea_is_air_and_no_lung(chest: ChestPhantom) -> None:
    column = chest.image[36, 50:80, 50:78]
    air = (column < -930) & (chest.mask[36, 50:80, 50:78] == 0)
    assert air.sum() * 9 > 80  # mm²


def test_fundus_folder(tmp_path: Path) -> None:
    write_fundus(tmp_path, 5, masks=2, seed=1, size=96)
    with (tmp_path / "clicks.csv").open(encoding="utf-8", newline="") as file:
        clicks = list(csv.DictReader(file))
    assert [row["image"] for row in clicks] == [f"case_{index:03}.png" for index in range(5)]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["case_000.png", "case_001.png"]
    with Image.open(tmp_path / "masks" / "case_000.png") as mask:
        assert mask.size == (96, 96) and set(np.unique(np.asarray(mask))) == {0, 255}

    dataset = read_dataset(tmp_path)
    assert len(dataset) == len(dataset.clicked) == 5 and len(dataset.labelled) == 2
    assert dataset.modality == "fundus" and dataset.classes == ("background", "disc") and not dataset.notes
    assert [case.patient[-3:] for case in dataset] == ["000", "000", "001", "002", "002"]
    first = dataset["case_000"]
    assert first.mask and first.click
    assert np.array_equal(read_image(first.image).array, fundus((1, 0), 96, eye="right").image)
    labels = read_labels(first.mask, first.geometry, 2)
    assert labels[round(first.click[0]), round(first.click[1])] == 1


def test_fundus_folder_with_the_cup(tmp_path: Path) -> None:
    write_fundus(tmp_path, 1, size=96, cup=True)
    case = read_dataset(tmp_path)["case_000"]
    assert case.mask
    assert set(np.unique(read_labels(case.mask, case.geometry, 3))) == {0, 1, 2}


def test_chest_folder(tmp_path: Path) -> None:
    write_chest(tmp_path, 2, seed=5, shape=(12, 48, 48), spacing=(20.0, 8.0, 8.0))
    dataset = read_dataset(tmp_path)
    assert dataset.modality == "ct" and dataset.classes == ("background", "lung", "infection")
    assert len(dataset.labelled) == 2
    volume = chest_ct((5, 0), (12, 48, 48), (20.0, 8.0, 8.0), extent=0.6)
    stored, mask = (nib.load(tmp_path / part / "case_000.nii.gz") for part in ("images", "masks"))
    assert np.array_equal(stored.dataobj, volume.image.T) and stored.get_data_dtype() == np.int16
    assert np.array_equal(mask.dataobj, volume.mask.T)
    assert np.allclose(stored.affine, volume.affine, atol=1e-3) and np.array_equal(stored.affine, mask.affine)
    assert stored.header["sform_code"] == stored.header["qform_code"] == 1
    assert (volume.mask == 2).any()


def test_folders_are_their_seed(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_fundus(tmp_path / name / "fundus", 2, size=64, seed=seed)
        write_chest(tmp_path / name / "chest", 1, seed=seed, shape=(8, 32, 32))
    one, again, other = (digests(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert not {one[name] for name in one if "images" in name} & set(other.values())
