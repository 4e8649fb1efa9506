"""Patches of volumes: where they lie, what is drawn, and that nothing is lost on the way back."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.case import Image
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.learn.objectives import Segment, cross_entropy, in_patches, log_dice, spread
from napari_tlseg.learn.predict import VolumeSegmenter, make_segmenter
from napari_tlseg.learn.samples import IGNORED
from napari_tlseg.learn.volumes import Patch, Volume
from napari_tlseg.nets.checkpoint import Provenance

STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)
sides, few = st.integers(1, 9), st.integers(1, 12)


def volume(labels: np.ndarray, patch: Patch) -> Volume:
    """Of which every voxel's value says where it lies."""
    size = labels.shape[-1]
    places = np.arange(labels.size, dtype=np.float32).reshape(1, *labels.shape) / labels.size
    return Volume(case="ct", image=places, labels=labels, frame=Letterbox((size, size), size), patch=patch)


@given(sides, sides, few, few)
def test_tiles_cover_every_voxel_once(depth: int, side: int, planes: int, size: int) -> None:
    patch, times = Patch(depth, side), np.zeros((planes, size, size), int)
    for z, y, x in patch.tiles(times.shape):
        times[z : z + depth, y : y + side, x : x + side] += 1
    assert (times == 1).all()


@given(sides, sides, few, few, st.integers(0, 99))
def test_tiles_hold_the_volume_and_know_nothing_beyond_it(
    depth: int, side: int, planes: int, size: int, seed: int
) -> None:
    rng, patch = np.random.default_rng(seed), Patch(depth, side)
    labels = rng.integers(0, 3, (planes, size, size)).astype(np.uint8)
    labels[rng.random(planes) < 0.3] = IGNORED  # planes that nobody painted
    whole = volume(labels, patch)
    tiles = whole.tiles()
    assert all(tile.image.shape == (1, *patch.shape) and tile.labels.shape == patch.shape for tile in tiles)
    known = [(tile.image[0][tile.labels != IGNORED], tile.labels[tile.labels != IGNORED]) for tile in tiles]
    found = {value: label for values, classes in known for value, label in zip(values, classes, strict=True)}
    seen = labels != IGNORED
    assert sum(len(values) for values, _ in known) == len(found) == seen.sum()
    assert found == dict(zip(whole.image[0][seen], labels[seen], strict=True))


@given(sides, sides, few, few, st.integers(0, 99))
def test_what_is_drawn_is_a_patch_with_a_painted_plane_in_sight(
    depth: int, side: int, planes: int, size: int, seed: int
) -> None:
    rng, patch = np.random.default_rng(seed), Patch(depth, min(side, size))
    labels = rng.integers(0, 2, (planes, size, size)).astype(np.uint8)
    labels[rng.permutation(planes)[1:]] = IGNORED
    whole = volume(labels, patch)
    drawn = whole.varied(STILL, rng)
    assert drawn.image.shape == (1, *patch.shape) and drawn.labels.shape == patch.shape
    assert drawn.case == "ct" and (drawn.labels != IGNORED).any()
    known = drawn.labels != IGNORED
    truth = dict(zip(whole.image[0].ravel(), labels.ravel(), strict=True))
    assert [truth[value] for value in drawn.image[0][known]] == drawn.labels[known].tolist()


def test_half_of_the_patches_are_about_a_target_of_each_class_in_turn() -> None:
    """Class 2 is one voxel, class 1 hundreds: both are in the middle of a quarter of the patches."""
    labels = np.zeros((20, 24, 24), np.uint8)
    labels[3:8, 4:20, 4:20], labels[14, 12, 12] = 1, 2
    whole, rng = volume(labels, Patch(4, 6)), np.random.default_rng(0)
    middles = Counter(int(whole.varied(STILL, rng).labels[2, 3, 3]) for _ in range(400))
    assert middles[2] == pytest.approx(100, abs=30)
    assert middles[1] == pytest.approx(100 + 200 * (labels == 1).mean(), abs=45)


def test_all_planes_of_a_patch_are_changed_alike() -> None:
    stack = np.repeat(np.random.default_rng(0).random((1, 1, 32, 32), np.float32), 3, axis=1)
    change = Augment(noise=0).draw(np.random.default_rng(1), 32)
    moved = change.image(stack)
    assert moved.shape == stack.shape and not np.array_equal(moved, stack)
    assert all(np.array_equal(moved[:, plane], change.image(stack[:, 0])) for plane in range(3))
    labels = np.random.default_rng(0).integers(0, 3, (4, 32, 32)).astype(np.uint8)
    assert all(map(np.array_equal, change.labels(labels), map(change.labels, labels)))


class Echo(nn.Module):
    """A voxel's value is the probability that it is foreground; remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.shapes = set[tuple[int, ...]]()

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        self.shapes.add(tuple(patches.shape))
        assert not self.training and not torch.is_grad_enabled()
        return torch.logit(patches, eps=1e-6)


def echo(size: int, patch: Patch) -> VolumeSegmenter:
    facts = {"task": "segment", "encoder": "unet-3d", "in_channels": 1, "classes": ("background", "target")}
    provenance = Provenance(recipe="plain", size=size, patch=patch, **facts)  # type: ignore[arg-type]
    segmenter = make_segmenter(Echo(), provenance)  # type: ignore[arg-type]
    assert isinstance(segmenter, VolumeSegmenter)
    return segmenter


@settings(max_examples=12)
@given(st.integers(2, 11), st.integers(3, 20), st.integers(3, 20), sides, sides, st.integers(0, 99))
def test_a_network_that_gives_back_what_it_sees_gives_back_the_volume(
    planes: int, height: int, width: int, depth: int, side: int, seed: int
) -> None:
    """Voxel by voxel, whatever the sizes of volume and patch."""
    size, mask = max(height, width), np.random.default_rng(seed).random((planes, height, width)) > 0.5
    mask[0, 0, :2] = 0, 1
    segmenter = echo(size, Patch(depth, min(side, size)))
    image = Image((mask * 255).astype(np.uint8), Geometry(shape=mask.shape, spacing=(1.0, 1.0, 1.0)))
    found = np.stack([*segmenter.planes(image)])
    assert np.array_equal(found, mask)
    assert segmenter.model.shapes == {(1, 1, depth, min(side, size), min(side, size))}
    middle = planes // 2
    assert np.array_equal(segmenter.looking_at(image, middle, None)(), mask[middle])


def test_a_voxel_that_nobody_painted_is_in_no_loss_and_no_score() -> None:
    logits = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.randint(3, (2, 4, 5, 5), generator=torch.Generator().manual_seed(1))
    labels[:, 1] = IGNORED
    weights = torch.tensor([0.5, 1.0, 1.5])
    for loss in (log_dice, lambda *both: cross_entropy(*both, weights)):
        (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
        assert not gradient[:, :, 1].any() and gradient[:, :, 0].any()
        seen = [0, 2, 3]
        alone = loss(logits[:, :, seen], labels[:, seen])
        torch.testing.assert_close(loss(logits, labels), alone)


def test_the_loss_of_a_volume_is_that_of_its_planes_side_by_side() -> None:
    logits, labels = torch.randn(1, 1, 4, 6, 5), torch.randint(2, (1, 4, 6, 5))
    torch.testing.assert_close(log_dice(logits, labels), log_dice(logits[0].movedim(0, 1), labels[0]))
    weights = torch.tensor([0.5, 1.5])
    flat = cross_entropy(logits.flatten(2, 3), labels.flatten(1, 2), weights)
    torch.testing.assert_close(cross_entropy(logits, labels, weights), flat)


def test_a_look_at_tiles_scores_the_case_as_a_whole() -> None:
    """Dice over both tiles of a case together, unpainted planes left out; by an echo that finds the squares above ½."""
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[0, :2], labels[1] = 1, IGNORED
    whole = volume(labels, Patch(2, 8))
    whole.image[:] = 0
    whole.image[0, 0, :4], whole.image[0, 1:3, 0] = 0.9, 0.9  # twice too much; and what is on plane 1 is not known
    tiles = whole.tiles()
    objective = Segment([whole], tiles, STILL, 2, 2, "dice")
    assert in_patches(tiles) and len(tiles) == 2 and objective.validation == tiles
    with torch.inference_mode():
        found = objective.evaluate(Echo().eval(), objective.validation)
    assert found["dice"] == pytest.approx(2 * 16 / (16 + 32 + 8))
    images, masks = objective.batch(np.random.default_rng(0))
    assert images.shape == (2, 1, 2, 8, 8) and masks.shape == (2, 2, 8, 8)
    assert objective.shares.tolist() == pytest.approx([1 - 16 / 192, 16 / 192])


def test_a_look_is_at_few_tiles_of_each_case() -> None:
    tiles = volume(np.zeros((64, 4, 4), np.uint8), Patch(1, 4)).tiles()
    assert len(spread(tiles)) == 16
