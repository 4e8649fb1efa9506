"""From a network's answer to labels on the grid of the image: with networks whose answer is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import nn

from napari_tlseg.data.annotations import write_mask
from napari_tlseg.data.case import Image
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.learn.predict import BATCH, Segmenter
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.nets.encoders import Encoder, PlainBody
from napari_tlseg.nets.unet import UNet

ODD = np.array([[0, 0, -2.0, 7], [-1.0, 0, 0, 3], [0, -3.0, 0, -5], [0, 0, 0, 1]])  # i posterior, j inferior, k left


class Bright(nn.Module):
    """A pixel's value is the probability that it is foreground."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        assert not self.training and not torch.is_grad_enabled()
        return torch.logit(images[:, :1], eps=1e-6)


class Levels(Bright):
    """Below 1/3 background, then class 1, from 2/3 on class 2."""

    def forward(self, images):
        super().forward(images)
        return torch.cat([-((images[:, :1] - level) ** 2) for level in (1 / 6, 3 / 6, 5 / 6)], 1) * 1000


@dataclass
class Made:
    """A segmenter around a network that we know."""

    model: nn.Module = field(default_factory=Bright)
    size: int = 64
    recipe: str = "plain"
    classes: tuple[str, ...] = ("background", "target")
    clean: Postprocess = field(default_factory=Postprocess)
    precision: torch.dtype = torch.float32

    def segmenter(self):
        provenance = Provenance(
            task="segment", encoder="unet", in_channels=1, classes=self.classes, recipe=self.recipe, size=self.size
        )
        return Segmenter(self.model, provenance, self.clean, self.precision)

    def labels(self, case):
        segmenter = self.segmenter()
        return segmenter.finish(list(segmenter.planes(read_image(case.image, case.page))), case)


def photo(tmp_path, array, roi=None):
    for folder, pixels in (("images", array), ("rois", roi)):
        if pixels is not None:
            (tmp_path / folder).mkdir()
            Pillow.fromarray(pixels).save(tmp_path / folder / "a.png")
    return read_dataset(tmp_path).cases[0]


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("shape", [(64, 64), (20, 64), (64, 33)])
def test_a_photograph_comes_back_exactly_where_nothing_is_scaled(tmp_path, shape):
    mask = (np.random.default_rng(0).random(shape) > 0.5).astype(np.uint8)
    found = Made().labels(photo(tmp_path, mask * 255))
    assert found.shape == (1, *shape)
    assert found.dtype == np.uint8
    assert (found[0] == mask).all()


def test_several_classes_are_told_apart(tmp_path):
    mask = np.random.default_rng(0).integers(0, 3, (64, 40)).astype(np.uint8)
    made = Made(model=Levels(), classes=("background", "disc", "cup"))
    assert (made.labels(photo(tmp_path, mask * 127))[0] == mask).all()


@pytest.mark.parametrize("shape", [(300, 200), (101, 400), (30, 50)])
def test_a_photograph_of_any_size_comes_back_on_its_own_grid(tmp_path, shape):
    mask = disc(shape, 0.4 * shape[0], 0.6 * shape[1], 0.25 * min(shape))
    found = Made(size=96).labels(photo(tmp_path, mask * 255))[0]
    assert found.shape == shape
    assert dice(found, mask) > 0.95
    assert np.argwhere(found).mean(0) == pytest.approx(np.argwhere(mask).mean(0), abs=0.5)


def test_outlines_are_smooth(tmp_path):
    """Probabilities are interpolated, then the class is chosen: better than blowing up the network's own labels."""
    mask = disc((512, 512), 250, 260, 90)
    smooth = Made(size=32).labels(photo(tmp_path, mask * 255))[0]
    blocks = np.kron(Letterbox((512, 512), 32).labels(mask), np.ones((16, 16), np.uint8))
    assert dice(smooth, mask) > 0.99 > dice(blocks, mask)


def geometry(shape):
    return Geometry(shape=shape, spacing=(1.0,) * len(shape))


def volume(tmp_path, array):
    """A case from (i, j, k), whose axes point to posterior, inferior and left."""
    (tmp_path / "images").mkdir()
    image = nib.Nifti1Image(array, ODD)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "images" / "ct.nii.gz")
    return read_dataset(tmp_path).cases[0]


def test_a_volume_in_an_odd_orientation_comes_back_voxel_by_voxel(tmp_path):
    mask = (np.random.default_rng(0).random((40, 19, 64)) > 0.5).astype(np.uint8)
    case = volume(tmp_path, mask.astype(np.int16) * 1000)
    labels = Made().labels(case)
    assert labels.shape == (19, 40, 64)
    written = nib.load(write_mask(case, labels, tmp_path / "masks", 2))
    assert (np.asarray(written.dataobj) == mask).all()
    assert (written.affine == ODD).all()


def test_planes_go_in_batches_and_come_in_order():
    count = 2 * BATCH + 3
    stack = np.zeros((count, 32, 32), np.uint8)
    for plane in range(count):
        stack[plane, plane, :] = 255
    model = Bright()
    planes = Made(model=model, size=32).segmenter().planes(Image(stack, geometry(stack.shape)))
    first = next(planes)
    assert model.batches == [BATCH]  # no more is computed than was asked for
    found = [first, *planes]
    assert model.batches == [BATCH, BATCH, 3]
    assert (np.stack(found) == stack // 255).all()


def test_nothing_lies_outside_the_region_of_interest(tmp_path):
    roi = disc((64, 64), 30, 30, 12) * 255
    case = photo(tmp_path, np.full((64, 64), 255, np.uint8), roi)
    assert (Made().labels(case)[0] == roi // 255).all()
    assert Made(clean=Postprocess(keep_outside=True)).labels(case).all()


def test_the_region_of_interest_of_a_volume_is_turned_with_it(tmp_path):
    roi = np.zeros((40, 6, 64), np.uint8)
    roi[3:9, 1, 10:30] = 1
    array = np.full(roi.shape, 1000, np.int16)
    array[0, 0, :40] = 0  # so that there is a range
    array[0, 1, :40] = 0
    (tmp_path / "rois").mkdir()
    nib.save(nib.Nifti1Image(roi, ODD), tmp_path / "rois" / "ct.nii.gz")
    labels = Made().labels(volume(tmp_path, array))
    assert (labels[4, 3:9, 10:30] == 1).all()  # j = 1 of 6 towards inferior is plane 4
    assert labels.sum() == roi.sum()


def test_the_mask_is_cleaned(tmp_path):
    mask = disc((64, 64), 30, 30, 12) | disc((64, 64), 55, 55, 1)
    found = Made(clean=Postprocess(largest_only=True)).labels(photo(tmp_path, mask * 255))[0]
    assert (found == disc((64, 64), 30, 30, 12)).all()


def test_a_real_network_answers_without_leaving_a_mode_of_torch_behind(tiny):
    stack = np.random.default_rng(0).integers(0, 255, (3, 48, 32)).astype(np.uint8)
    for precision in (torch.float32, torch.bfloat16):
        segmenter = Made(model=tiny, size=32, precision=precision).segmenter()
        for labels in segmenter.planes(Image(stack, geometry(stack.shape))):
            assert labels.shape == (48, 32)
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")


def test_volumes_do_not_depend_on_how_they_are_batched(tiny):
    """Every plane alone gives what it gives among others: no statistics are taken from the batch."""
    stack = np.random.default_rng(0).integers(0, 255, (5, 32, 32)).astype(np.uint8)
    segmenter = Made(model=tiny.train(), size=32).segmenter()
    together = list(segmenter.planes(Image(stack, geometry(stack.shape))))
    alone = [next(segmenter.planes(Image(plane, geometry(plane.shape)))) for plane in stack]
    assert np.mean(np.stack(together) == np.stack(alone)) > 0.999


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return UNet(Encoder("unet", PlainBody(1, widths=(4, 8)), 1, (0.5,), (0.25,)), 2)


class Middle(Bright):
    """The slice itself, of three."""

    def forward(self, images):
        return super().forward(images[:, 1:2])


def test_of_a_clipped_ct_the_mask_is_on_the_whole_grid_voxel_by_voxel(tmp_path):
    """Stored in an odd orientation, at the resolution of the body's box: what is found is what is there."""
    rng = np.random.default_rng(0)
    stored = np.full((20, 9, 30), -1000, np.int16)  # i posterior, j inferior, k left
    stored[3:17, 2:7, 5:27] = rng.integers(-740, 200, (14, 5, 22))
    (tmp_path / "images").mkdir()
    nib.save(nib.Nifti1Image(stored, ODD), tmp_path / "images" / "a.nii.gz")
    case = read_dataset(tmp_path).cases[0]
    made = Made(model=Middle(), size=22, recipe="ct-lung-3-clipped")
    found = case.geometry.from_planes(made.labels(case))
    np.testing.assert_array_equal(found.T, stored > -500)
