"""Planes of real files, prepared and varied."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import CT_LUNG, CT_LUNG_3, PLAIN
from napari_tlseg.learn.samples import Sample, click_samples, mask_samples

STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)
ODD = np.array([[0, 0, -2.0, 7], [-1.0, 0, 0, 3], [0, -3.0, 0, -5], [0, 0, 0, 1]])


@pytest.fixture
def photo(tmp_path):
    """A white disc on black, painted and clicked."""
    rows, columns = np.indices((60, 120))
    disc = ((rows - 20) ** 2 + (columns - 90) ** 2 < 100).astype(np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Pillow.fromarray(disc * 255).save(tmp_path / folder / "disc.png")
    write_clicks(tmp_path, {"disc.png": (20, 90)})
    return read_dataset(tmp_path).cases[0]


@pytest.fixture
def volume(tmp_path):
    """(i, j, k) = (32, 6, 16), cut in an odd direction: plane n is j = 5 - n; HU rises with n."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    hu = np.broadcast_to(np.arange(-100, -700, -100, dtype=np.int16)[None, :, None], (32, 6, 16)).copy()
    hu[4, 1, 8] = 0
    nib.save(nib.Nifti1Image(hu, ODD), tmp_path / "images" / "ct.nii.gz")
    mask = np.zeros(hu.shape, np.uint8)
    mask[2:7, 1, 6:11] = 1
    nib.save(nib.Nifti1Image(mask, ODD), tmp_path / "masks" / "ct.nii.gz")
    write_clicks(tmp_path, {"ct.nii.gz": (8, 1, 4)})
    return tmp_path


def test_image_mask_and_click_share_a_grid(photo):
    (painted,) = mask_samples(photo, PLAIN, 64, 2)
    (clicked,) = click_samples(photo, PLAIN, 64)
    assert painted.case == clicked.case == "disc"
    assert painted.image.shape == (1, 64, 64)
    assert painted.labels.shape == (64, 64)
    assert clicked.point == pytest.approx((16 + 20.5 * 32 / 60 - 0.5, 90.5 * 64 / 120 - 0.5))
    y, x = clicked.point
    assert painted.labels[round(y), round(x)] == 1
    assert ((painted.image[0] > 0.5) == (painted.labels == 1)).mean() > 0.995
    assert painted.point is None and clicked.labels is None


def test_planes_are_kept_small(photo):
    """Half precision holds 8-bit images exactly enough, in half the memory."""
    (sample,) = mask_samples(photo, PLAIN, 64, 2)
    assert sample.image.dtype == np.float16


def test_a_volume_gives_its_painted_planes_in_order(volume):
    every = mask_samples(read_dataset(volume).cases[0], CT_LUNG, 32, 2)
    assert len(every) == 6
    assert [sample.image[0, 16, 16] for sample in every] == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], abs=1e-3)
    assert [int(sample.labels.any()) for sample in every] == [0, 0, 0, 0, 1, 0]
    (volume / "labelled.csv").write_text("image,z\nct.nii.gz,1\nct.nii.gz,3\n")
    some = mask_samples(read_dataset(volume).cases[0], CT_LUNG, 32, 2)
    assert {float(sample.image[0, 16, 16]) for sample in some} == {float(np.float16(0.6)), float(np.float16(0.8))}
    assert sum(int(sample.labels.any()) for sample in some) == 1


def test_the_click_of_a_volume_lies_on_its_voxel(volume):
    (sample,) = click_samples(read_dataset(volume).cases[0], CT_LUNG_3, 32)
    assert sample.image.shape == (3, 32, 32)
    y, x = np.unravel_index(sample.image[1].argmax(), (32, 32))
    assert sample.image[1, y, x] == 1
    assert sample.point == pytest.approx((y, x))


def test_no_target_visible_gives_nothing_to_learn_from(photo, tmp_path):
    write_clicks(tmp_path, {"disc.png": ()})
    assert click_samples(read_dataset(tmp_path).cases[0], PLAIN, 64) == []


def sample_at(y, x, size=32):
    image = np.zeros((1, size, size), np.float32)
    image[0, min(max(round(y), 0), size - 1), min(max(round(x), 0), size - 1)] = 1
    return Sample(case="a", image=image, frame=Letterbox((size, size), size), point=(y, x))


@given(st.integers(0, 2**32 - 1), st.floats(-0.5, 31.5), st.floats(-0.5, 31.5))
def test_a_click_never_leaves_the_square(seed, y, x):
    augment = Augment(rotate=45, zoom=0.3, shift=0.5, flip_x=True, flip_y=True)
    varied = sample_at(y, x).varied(augment, np.random.default_rng(seed))
    assert all(-0.5 <= place <= 31.5 for place in varied.point)


@pytest.mark.parametrize("augment", [STILL, Augment(rotate=10, zoom=0, shift=0)])
def test_a_click_on_the_outermost_edge_comes_back_too(augment):
    """A large photograph's first row lies half a pixel outside the centre of the square's first."""
    varied = sample_at(-0.5, -0.5).varied(augment, np.random.default_rng(0))
    assert varied.point == (-0.5, -0.5)


def test_a_sample_varies_as_one(photo):
    (painted,) = mask_samples(photo, PLAIN, 64, 2)
    (clicked,) = click_samples(photo, PLAIN, 64)
    augment = Augment(rotate=30, zoom=0.2, shift=0.1, flip_x=True, flip_y=True, gamma=0, contrast=0, noise=0)
    for seed in range(20):
        first, second = (sample.varied(augment, np.random.default_rng(seed)) for sample in (painted, painted))
        assert (first.image == second.image).all()
        assert first.image.dtype == np.float32
        assert ((first.image[0] > 0.5) == (first.labels == 1)).mean() > 0.98
        moved = clicked.varied(augment, np.random.default_rng(seed))
        rows, columns = np.nonzero(moved.image[0] > 0.5)
        inside = rows.size and rows.min() > 0 and columns.min() > 0 and rows.max() < 63 and columns.max() < 63
        if inside:
            assert np.hypot(rows.mean() - moved.point[0], columns.mean() - moved.point[1]) < 0.7
    assert painted.labels.any()  # and the original is left as it was
