"""The student's loss by hand, its batches, and its noise, which nobody else meets."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import CT_LUNG, PLAIN
from napari_tlseg.learn.classify import Classify
from napari_tlseg.learn.noisy import IGNORED, TOP, NoisyStudent, fewer, noisy, pseudo_tags
from napari_tlseg.learn.objectives import Segment
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet

STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)


class Logits(nn.Module):
    """Says what it is told, whatever it sees."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.said = nn.Parameter(torch.tensor(logits).reshape(2, 1, 2, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.said


def sample(labels: list[int], name: str = "case", value: float = 0.5) -> Sample:
    size = math.isqrt(len(labels))
    return Sample(
        case=name,
        image=np.full((1, size, size), value, np.float32),
        frame=Letterbox((size, size), size),
        labels=np.array(labels, np.uint8).reshape(size, size),
    )


def objective(pseudo: list[int], weight: float, loss: str = "dice") -> NoisyStudent:
    labelled = Segment([sample([1, 0, 0, 1])], [], STILL, 1, 2, loss)  # type: ignore[arg-type]
    return NoisyStudent(labelled, [sample(pseudo)], STILL, 1, weight)


SURE = math.log(3)
"""Logit of the probability ¾."""


def test_the_loss_is_the_weighted_mean_of_both_and_ignored_pixels_are_in_none() -> None:
    """−log Dice of each batch alone, by hand: p = ¾ everywhere but at the ignored pixel, where it would be wrong."""
    student = objective([1, 0, IGNORED, 0], weight=0.5)
    model = Logits([SURE, -SURE, -SURE, SURE, SURE, -SURE, 20.0, -SURE])
    loss = student.loss(model, student.batch(np.random.default_rng(0)))
    own = -math.log((2 * 1.5 + 1) / (2 + 2 + 1))  # Σpg = 2·¾, Σp = 2·¾ + 2·¼, Σg = 2
    pseudo = -math.log((2 * 0.75 + 1) / (1.25 + 1 + 1))  # without the third pixel: Σpg = ¾, Σp = ¾ + 2·¼, Σg = 1
    assert loss.item() == pytest.approx((own + 0.5 * pseudo) / 1.5, rel=1e-6)
    loss.backward()
    gradient = model.said.grad
    assert gradient is not None and gradient[1, 0, 1, 0] == 0 and (gradient[0] != 0).all()


def test_cross_entropy_counts_known_pixels_alone() -> None:
    student = objective([1, 0, IGNORED, IGNORED], weight=1.0, loss="cross-entropy")
    model = Logits([SURE, -SURE, -SURE, SURE, -SURE, -SURE, 20.0, 20.0])
    loss = student.loss(model, student.batch(np.random.default_rng(0)))
    pseudo = (-math.log(0.25) - math.log(0.75)) / 2  # the classes are equally many: their weights are 1
    assert loss.item() == pytest.approx((-math.log(0.75) + pseudo) / 2, rel=1e-6)


def test_where_all_pixels_are_ignored_the_masks_alone_are_learned() -> None:
    student = objective([IGNORED] * 4, weight=1.0, loss="both")
    model = Logits([SURE, -SURE, -SURE, SURE] + [20.0] * 4)
    loss = student.loss(model, student.batch(np.random.default_rng(0)))
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() > 0
    assert model.said.grad is not None and (model.said.grad[1] == 0).all() and (model.said.grad[0] != 0).all()


def test_both_kinds_stand_side_by_side_and_the_labelled_come_round_more_often() -> None:
    labelled = [sample([1] * 4, value=number / 100) for number in range(3)]
    pseudo = [sample([0] * 4, value=0.5 + number / 100) for number in range(12)]
    student = NoisyStudent(Segment(labelled, [], STILL, 2, 2, "dice"), pseudo, STILL, fewer(8, 3, 12, 2), 1.0)
    times, rng = Counter[float](), np.random.default_rng(0)
    for _ in range(12):
        images, labels = student.batch(rng)
        assert images.shape == (10, 1, 2, 2) and labels.dtype == torch.int64
        assert (labels[:2] == 1).all() and (labels[2:] == 0).all()
        times.update(round(float(image[0, 0, 0]), 4) for image in images)
    passes = [times[round(float(s.image[0, 0, 0]), 4)] for s in (*labelled, *pseudo)]
    assert passes == [8] * 3 + [8] * 12


@given(st.integers(1, 64), st.integers(1, 300), st.integers(1, 300), st.integers(1, 32))
def test_the_labelled_never_come_round_less_often(asked: int, labelled: int, pseudo: int, batch: int) -> None:
    beside = fewer(asked, labelled, pseudo, batch)
    assert 1 <= beside <= max(asked, 1)
    assert beside == 1 or batch / labelled >= beside / pseudo


def test_ignored_pixels_move_with_the_image_and_stay_ignored() -> None:
    """Chance moves labels by nearest neighbour: no class between 1 and 255 comes up."""
    size = 32
    labels = np.zeros((size, size), np.uint8)
    labels[8:20, 8:20], labels[16:24, 4:12] = 1, IGNORED
    image = (labels == IGNORED)[None].astype(np.float32)
    one = Sample(case="a", image=image, frame=Letterbox((size, size), size), labels=labels)
    moves = replace(noisy(PLAIN), gamma=0, contrast=0, brightness=0, noise=0)
    for seed in range(20):
        varied = one.varied(moves, np.random.default_rng(seed))
        assert varied.labels is not None and set(np.unique(varied.labels)) <= {0, 1, IGNORED}
        marked, seen = varied.labels == IGNORED, varied.image[0] > 0.5
        assert 2 * (marked & seen).sum() >= 0.8 * (marked.sum() + seen.sum())


def test_the_noise_is_more_than_the_recipes_own_and_greys_no_grey_image() -> None:
    noise = noisy(PLAIN)
    assert noise.rotate > PLAIN.augment.rotate and noise.crop < 1 and noise.stretch > 0 and noise.grey > 0
    assert noisy(CT_LUNG).grey == 0 and noisy(CT_LUNG).noise == CT_LUNG.augment.noise
    assert (CT_LUNG.augment.crop, CT_LUNG.augment.stretch, CT_LUNG.augment.grey) == (1, 0, 0)  # without a teacher none


def test_dropout_is_on_in_training_alone() -> None:
    torch.manual_seed(0)
    model, image = UNet(make_encoder("unet", 1), 2), torch.rand(2, 1, 32, 32)
    clean = model.eval()(image)
    model.dropout.p = 0.5
    assert torch.equal(model(image), clean)
    model.encoder.eval(), model.decoder.eval(), model.dropout.train()
    one, other = model(image), model(image)
    assert not torch.equal(one, other) and not torch.equal(one, clean)
    assert not any("dropout" in name for name in model.state_dict())


def test_pseudo_tags_are_the_likely_ones_among_the_top_fifteen_and_of_exclusive_ones_the_likeliest() -> None:
    found = np.array([[0.9, 0.8, 0.5, 0.51, 0.2], [0.4, 0.6, 0.7, 0.1, 0.3]], np.float32)
    assert pseudo_tags(found, []).tolist() == [[1, 1, 0, 1, 0], [0, 1, 1, 0, 0]]
    assert pseudo_tags(found, [[1, 2], [0, 3]]).tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    many = np.linspace(0.99, 0.6, 20, dtype=np.float32)[None]
    order = np.random.default_rng(0).permutation(20)
    assert TOP == 15 and pseudo_tags(many, []).tolist() == [[1] * 15 + [0] * 5]
    assert pseudo_tags(many[:, order], []).tolist() == [[float(place < 15) for place in order]]
    assert pseudo_tags(many, [[0, 1]])[0].sum() == 14  # what is excluded makes no room for the sixteenth


class Scores(nn.Module):
    def __init__(self, scores: list[list[float]]) -> None:
        super().__init__()
        self.said = torch.tensor(scores)[:, None].expand(-1, 2, -1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.said


def test_labels_of_images_are_weighed_alike() -> None:
    """Half each, and what nobody knows of a labelled image is in no loss."""
    own, pseudo = (replace(sample([0] * 4), tags=tags) for tags in ((1.0, math.nan), (0.0, 1.0)))
    labelled = Classify([own], [], STILL, 1, ("a", "b"))
    student = NoisyStudent(labelled, [pseudo], STILL, 1)
    loss = student.loss(Scores([[SURE, 5.0], [SURE, SURE]]), student.batch(np.random.default_rng(0)))
    focal = [0.25**2 * -math.log(0.75), (0.75**2 * -math.log(0.25) + 0.25**2 * -math.log(0.75)) / 2]
    assert loss.item() == pytest.approx(sum(focal) / 2, rel=1e-5)
