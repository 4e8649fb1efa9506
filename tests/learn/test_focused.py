"""Crops that find their target: with a network that sees what is bright, and a localizer that says what it is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_tlseg.data.case import Image
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.events import Control
from napari_tlseg.learn.focus import Focus
from napari_tlseg.learn.focused import FocusedSegmenter
from napari_tlseg.learn.locator import Locator
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.nets.heads import AnyLocalizer

SHAPE, RADIUS = (200, 300), 20
EXTENT = (2 * RADIUS + 1) / 300
FOCUS = Focus(side=2.5 * EXTENT, smallest=EXTENT, largest=EXTENT)


class Bright(nn.Module):
    """A pixel's value is the probability that it is foreground; counts the crops it is shown."""

    def __init__(self):
        super().__init__()
        self.unused, self.seen = nn.Parameter(torch.zeros(())), 0

    def forward(self, images):
        self.seen += len(images)
        return torch.logit(images[:, :1], eps=1e-6)


class Says(AnyLocalizer):
    """The same place for every image, as fractions of the side, and a doubt."""

    def __init__(self, y, x, doubt=0.01):
        super().__init__()
        self.unused, self.answer = nn.Parameter(torch.zeros(())), (y, x, doubt)

    def forward(self, image):
        return torch.zeros(len(image))

    def places(self, output):
        return torch.tensor([self.answer] * len(output))

    def loss(self, output, centres):
        raise NotImplementedError


def segmenter(y=100.0, x=150.0, doubt=0.01, focus=FOCUS, size=64, shape=SHAPE):
    """Whose localizer says (y, x), native pixels."""
    facts = {"encoder": "unet", "in_channels": 1, "classes": ("background", "target"), "recipe": "plain"}
    longest = max(shape)
    fractions = [(place + 0.5 + (longest - side) / 2) / longest for place, side in zip((y, x), shape, strict=True)]
    seen = Provenance(task="localize", size=96, scores={"doubt_p95": 0.05}, **facts)
    locator = Locator(Says(*fractions, doubt), seen)
    return FocusedSegmenter(Bright(), Provenance(task="segment", size=size, **facts), focus=focus, locator=locator)


def photograph(*discs, shape=SHAPE):
    """White discs (y, x, radius) on black."""
    rows, columns = np.indices(shape)
    white = [(rows - y) ** 2 + (columns - x) ** 2 <= radius**2 for y, x, radius in discs]
    pixels = 255 * np.any(white, axis=0).astype(np.uint8) if white else np.zeros(shape, np.uint8)
    return Image(pixels, Geometry(shape=shape, spacing=(1.0, 1.0)))


def dice(found, image):
    truth = image.planes[..., 0] > 0
    mask = np.stack(found.planes) > 0
    return 2 * (truth & mask).sum() / (truth.sum() + mask.sum())


@pytest.mark.parametrize("off", [(0, 0), (15, -20), (-30, 30), (40, 40)])
def test_the_crop_moves_to_its_target(off):
    """Even where only a corner of the target was in the first crop, as 40 px off, at a side of 102."""
    image = photograph((90, 160, RADIUS))
    found = segmenter(90 + off[0], 160 + off[1]).find(image, None, Control())
    assert dice(found, image) > 0.97
    assert (found.focus, found.doubt) == ("localizer", "")


@pytest.mark.parametrize("place", [(0, 0), (5, 295), (199, 150)])
def test_a_target_at_the_border_of_the_image_is_no_reason_for_doubt(place):
    image = photograph((*place, RADIUS))
    found = segmenter(*place, focus=Focus(side=2.5 * EXTENT, smallest=0.4 * EXTENT, largest=EXTENT)).find(
        image, None, Control()
    )
    assert dice(found, image) > 0.95
    assert found.doubt == ""


def test_the_crop_grows_with_its_target_and_that_is_said():
    image = photograph((100, 150, 55))
    found = segmenter().find(image, None, Control())
    assert dice(found, image) > 0.97
    assert found.doubt == "larger than the training masks"


def test_a_crop_does_not_grow_without_end():
    """A network that sees target everywhere would otherwise end up seeing all of the image."""
    image = photograph()
    image.array[:] = 255
    tool = segmenter()
    found = np.stack(tool.find(image, None, Control()).planes)[0]
    assert np.ptp(np.flatnonzero(found.any(axis=0))) + 1 <= 1.25 * FOCUS.pixels(SHAPE) + 1
    assert tool.model.seen <= 30


def test_a_mask_that_reaches_the_border_in_spite_of_all_is_doubtful():
    image = photograph(shape=SHAPE)
    image.array[:] = 255
    found = segmenter(focus=Focus(side=0.1, smallest=0.05, largest=0.5)).find(image, None, Control())
    assert "the mask touches the border of the crop" in found.doubt


def test_where_nothing_is_found_that_is_said():
    found = segmenter().find(photograph(), None, Control())
    assert not np.any(found.planes)
    assert found.doubt == "nothing was found"


def test_a_speck_is_doubtful():
    found = segmenter().find(photograph((100, 150, 5)), None, Control())
    assert found.doubt == "smaller than the training masks"


def test_where_the_localizer_is_wrong_the_whole_image_is_searched():
    image = photograph((40, 50, RADIUS))
    found = segmenter(160, 260).find(image, None, Control())
    assert dice(found, image) > 0.97
    assert found.doubt == "found by a search of the whole image"


@pytest.mark.parametrize(("doubt", "found"), [(0.01, "speck"), (0.06, "disc"), (float("nan"), "disc")])
def test_a_sure_localizer_is_believed(doubt, found):
    """A speck where it says, a disc elsewhere: one that is unsure, or knows no doubt, is not."""
    image = photograph((40, 50, RADIUS), (160, 260, 5))
    mask = np.stack(segmenter(160, 260, doubt=doubt).find(image, None, Control()).planes)[0]
    assert (mask[40, 50], mask[160, 260]) == ((0, 1) if found == "speck" else (1, 0))


def test_an_unsure_localizer_is_marked_though_its_mask_looks_right():
    image = photograph((100, 150, RADIUS))
    found = segmenter(doubt=0.06).find(image, None, Control())
    assert dice(found, image) > 0.97
    assert found.doubt == "the localizer is unsure"


def test_a_click_goes_before_the_localizer():
    image = photograph((40, 50, RADIUS), (150, 250, RADIUS))
    found = segmenter(150, 250, doubt=0.2).find(image, (0, 45, 55), Control())
    assert (found.focus, found.doubt) == ("click", "")
    assert np.stack(found.planes)[0, 40, 50] and not np.stack(found.planes)[0, 150, 250]


def test_no_more_is_looked_at_than_is_needed():
    """A crop that already lies right."""
    tool = segmenter(100, 150)
    tool.find(photograph((100, 150, RADIUS)), None, Control())
    assert tool.model.seen == 1


def test_a_stop_is_noticed():
    assert segmenter().find(photograph((100, 150, RADIUS)), None, Control(stop=True)) is None


def volume(first, last, shape=(24, 60, 80)):
    """A cylinder of radius 8 about (30, 40), from one plane to another."""
    rows, columns = np.indices(shape[1:])
    pixels = np.zeros(shape, np.uint8)
    pixels[first : last + 1] = 255 * ((rows - 30) ** 2 + (columns - 40) ** 2 <= 64)
    return Image(pixels, Geometry(shape=shape, spacing=(2.0, 1.0, 1.0), unit="mm"))


SLICES = Focus(side=0.5, smallest=0.2, largest=0.22, height=0.5, depth=8.0)


def test_a_click_in_a_volume_is_the_middle_of_a_box():
    """8 mm are 4 slices: another target far above is not looked at."""
    image = volume(10, 14)
    image.array[20:] = image.array[12]
    tool = segmenter(focus=SLICES, shape=(60, 80))
    found = np.stack(tool.find(image, (12, 30.0, 40.0), Control()).planes)
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [10, 11, 12, 13, 14]
    everywhere = np.stack(tool.find(image, None, Control()).planes)
    assert np.flatnonzero(everywhere.any(axis=(1, 2))).tolist() == [10, 11, 12, 13, 14, 20, 21, 22, 23]


def test_the_box_grows_where_the_target_goes_on():
    image = volume(4, 20)
    found = segmenter(focus=SLICES, shape=(60, 80)).find(image, (12, 30.0, 40.0), Control())
    assert np.flatnonzero(np.stack(found.planes).any(axis=(1, 2))).tolist() == list(range(4, 21))
    assert dice(found, image) > 0.9
