"""Which crops are cut, and what training sees of them."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.recipes import PLAIN
from napari_tlseg.learn.focus import MARGIN, ROOM, SHIFT, Focus

STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)


def photographs(folder, *discs, shape=(200, 300), clicks=None):
    """White discs (y, x, radius) on black, each painted."""
    rows, columns = np.indices(shape)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number, (y, x, radius) in enumerate(discs):
        disc = 255 * ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)
        for name in ("images", "masks"):
            Pillow.fromarray(disc).save(folder / name / f"{number}.png")
    if clicks:
        write_clicks(folder, {f"{number}.png": click for number, click in clicks.items()})
    return read_dataset(folder).cases


def volumes(folder, boxes, spacing=4.0, click=None):
    """(k, j, i) = (20, 60, 80), `spacing` mm apart; a box of slices in each is the target."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number, box in enumerate(boxes):
        mask = np.zeros((20, 60, 80), np.uint8)
        mask[box] = 1
        affine = np.diag([-1.0, -1.0, spacing, 1.0])
        for name, array in (("images", mask.astype(np.int16) * 100), ("masks", mask)):
            nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), folder / name / f"ct{number}.nii")
    if click:
        write_clicks(folder, {"ct0.nii": click})
    return read_dataset(folder).cases


def test_the_side_is_a_multiple_of_the_usual_extent(tmp_path):
    """Extents 21, 41 and 61 of 300: 2.5 times the median; the largest must fit too."""
    cases = photographs(tmp_path, (100, 150, 10), (100, 150, 20), (100, 150, 30))
    focus = Focus.learn(cases, 2, 2.5, None)
    assert focus.side == pytest.approx(2.5 * 41 / 300)
    assert (focus.smallest, focus.largest) == pytest.approx((21 / 300, 61 / 300))
    assert Focus.learn(cases, 2, 1.5, None).side == pytest.approx(ROOM * 61 / 300)
    assert focus.pixels((600, 400)) == pytest.approx(5 * 41)


def test_a_crop_is_never_larger_than_the_image(tmp_path):
    (case,) = photographs(tmp_path, (100, 150, 80))
    assert Focus.learn([case], 2, 4.0, None).side == 1.0


def test_nothing_is_learned_of_empty_masks(tmp_path):
    cases = photographs(tmp_path, (100, 150, 0.0))
    mask = np.zeros((200, 300), np.uint8)
    Pillow.fromarray(mask).save(tmp_path / "masks" / "0.png")
    assert Focus.learn(cases, 2, 2.5, None) is None


@pytest.mark.parametrize(("reach", "shift"), [(None, SHIFT[0]), (0.001, SHIFT[0]), (0.05, 0.15), (0.5, SHIFT[1])])
def test_crops_are_moved_as_far_as_the_localizer_errs(reach, shift, tmp_path):
    """A reach of 0.05 of the image's side is 15 px, of a crop of 100 px 0.15."""
    cases = photographs(tmp_path, (100, 150, 19.5))
    focus = Focus.learn(cases, 2, 100 / 39, reach)
    assert focus.pixels((200, 300)) == pytest.approx(100)
    assert focus.augment(STILL).shift == pytest.approx(shift)


def test_crops_are_turned_and_mirrored_where_the_recipe_mirrors():
    focus = Focus(side=0.3, smallest=0.1, largest=0.2)
    mirrored = focus.augment(replace(STILL, flip_x=True))
    assert (mirrored.rotate, mirrored.flip_y) == (60, True)
    assert focus.augment(STILL) == replace(STILL, shift=focus.shift)


def test_a_volume_is_one_target(tmp_path):
    """Slices 4 to 9 of 20: half their extent is 3 slices, 12 mm; their middle lies at 7 / 20."""
    cases = volumes(tmp_path, [np.s_[4:10, 10:30, 20:60]])
    focus = Focus.learn(cases, 2, 1.5, None)
    assert focus.depth == pytest.approx(1.5 * 12)
    assert focus.height == pytest.approx(7 / 20)
    assert focus.side == pytest.approx(1.5 * 40 / 80)
    assert focus.plane(cases[0]) == 7


def test_a_focus_goes_through_a_file(tmp_path):
    for place, make in (("photographs", photographs), ("volumes", volumes)):
        (tmp_path / place).mkdir()
        what = [(100, 150, 10)] if make is photographs else [[np.s_[4:10, 10:30, 20:60]]]
        focus = Focus.learn(make(tmp_path / place, *what), 2, 2.5, 0.01)
        assert Focus.from_dict(focus.to_dict()) == focus
        assert all(np.isfinite(value) for value in focus.to_dict().values())


@pytest.mark.parametrize("clicks", [None, {0: (60, 220)}])
def test_training_looks_about_the_click_or_the_middle_of_the_mask(clicks, tmp_path):
    (case,) = photographs(tmp_path, (70, 230, 20), clicks=clicks)
    focus = Focus.learn([case], 2, 2.5, None)
    (sample,) = focus.training(case, PLAIN, 64, 2)
    assert sample.image.shape[-1] == sample.labels.shape[-1] == round(MARGIN * 64)
    seen = sample.middle()
    assert seen.image.shape == (1, 64, 64) and seen.labels.shape == (64, 64)
    middle = np.array(np.nonzero(seen.labels)).mean(1)
    scale = 64 / (2.5 * 41)
    away = (10, 10) if clicks else (0, 0)
    assert middle == pytest.approx(31.5 + scale * np.array(away), abs=1)
    assert ((seen.image[0] > 0.5) == (seen.labels == 1)).mean() > 0.99


def test_what_is_moved_into_a_training_crop_is_the_image(tmp_path):
    """Moved by a quarter of the side, a white image shows no black border; its shape is that of the network."""
    for name, value in (("images", 200), ("masks", 0)):
        (tmp_path / name).mkdir()
        picture = np.full((200, 300), value, np.uint8)
        picture[95:106, 145:156] = 255
        Pillow.fromarray(picture).save(tmp_path / name / "0.png")
    (case,) = read_dataset(tmp_path).cases
    focus = Focus(side=0.25, smallest=0.03, largest=0.04, shift=0.25)
    (sample,) = focus.training(case, PLAIN, 32, 2)
    augment, places = focus.augment(STILL), []
    for seed in range(40):
        varied = sample.varied(augment, np.random.default_rng(seed))
        assert varied.image.shape == (1, 32, 32)
        assert varied.image.min() > 0.7
        places.append(np.array(np.nonzero(varied.labels)).mean(1) - 15.5)
    assert 6 < np.abs(places).max() <= 8 + 1


def test_an_empty_mask_is_looked_at_too(tmp_path):
    (case,) = photographs(tmp_path, (100, 150, 20), clicks={0: (40, 60)})
    Pillow.fromarray(np.zeros((200, 300), np.uint8)).save(tmp_path / "masks" / "0.png")
    focus = Focus(side=0.25, smallest=0.1, largest=0.1)
    (sample,) = focus.training(case, PLAIN, 32, 2)
    assert not sample.labels.any()
    assert sample.frame.native_point(sample.frame.size / 2, sample.frame.size / 2) == pytest.approx((40, 60), abs=2)


def test_a_volume_is_trained_on_in_one_box_for_all_its_planes(tmp_path):
    (case,) = volumes(tmp_path, [np.s_[4:10, 10:30, 20:60]], click=(7, 20, 41))
    focus = Focus.learn([case], 2, 1.5, None)
    samples = focus.training(case, PLAIN, 32, 2)
    assert len(samples) == 20 and len({sample.frame for sample in samples}) == 1
    painted = [number for number, sample in enumerate(samples) if sample.labels.any()]
    assert painted == list(range(4, 10))
    y, x = case.geometry.point_to_planes(case.click)[1:]
    middle = (samples[0].frame.size - 1) / 2
    assert samples[0].frame.native_point(middle, middle) == pytest.approx((y, x), abs=0.5)
    assert read_image(case.image).planes.shape[0] == 20
