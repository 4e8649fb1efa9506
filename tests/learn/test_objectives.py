"""Losses and scores, by hand and against MONAI and PyTorch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.events import Control
from napari_tlseg.learn.objectives import (
    Draw,
    Localize,
    Segment,
    class_shares,
    class_weights,
    cross_entropy,
    localize,
    log_dice,
    pick_loss,
    spread,
)
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.heads import Localizer

STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)
seeds = st.integers(0, 2**31 - 1)


class Says(Localizer):
    """Answers with what it was told, image by image."""

    def __init__(self, answers):
        nn.Module.__init__(self)
        self.unused = nn.Parameter(torch.zeros(()))
        self.answers, self.batches = answers, []

    def forward(self, images):
        self.batches.append(len(images))
        first = sum(self.batches[:-1])
        return self.answers[first : first + len(images)]


def painted(case, labels):
    labels = np.array(labels, np.uint8)
    return Sample(case=case, image=np.zeros((1, *labels.shape)), frame=Letterbox(labels.shape, 2), labels=labels)


def clicked(case, point, shape=(100, 200), size=50):
    return Sample(case=case, image=np.zeros((1, size, size)), frame=Letterbox(shape, size), point=point)


def planes(case, count):
    return [painted(case, [[number, 0], [1, 1]]) for number in range(count)]


def one_hot(labels, classes):
    """Logits that are as sure as can be."""
    return 40.0 * F.one_hot(torch.tensor(labels), classes).movedim(-1, 1).float() - 20


def random_batch(seed, outputs, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, outputs, 6, 5, generator=generator)
    return logits, torch.randint(classes, (3, 6, 5), generator=generator)


def test_log_dice_by_hand():
    """With p = 3/4 in each of four pixels, two of which are foreground: (2·1.5 + 1) / (3 + 2 + 1)."""
    logits = torch.full((1, 1, 2, 2), math.log(3))
    labels = torch.tensor([[[1, 0], [1, 0]]])
    assert log_dice(logits, labels).item() == pytest.approx(-math.log(4 / 6))


@given(seeds)
def test_log_dice_is_minus_the_log_of_monais_dice(seed):
    same = {"smooth_nr": 1, "smooth_dr": 1, "batch": True, "reduction": "none"}
    logits, labels = random_batch(seed, 1, 2)
    loss = DiceLoss(sigmoid=True, **same)(logits, labels[:, None])
    assert log_dice(logits, labels).item() == pytest.approx(-torch.log(1 - loss).mean().item(), rel=1e-4)
    logits, labels = random_batch(seed, 4, 4)
    loss = DiceLoss(softmax=True, to_onehot_y=True, include_background=False, **same)(logits, labels[:, None])
    assert log_dice(logits, labels).item() == pytest.approx(-torch.log(1 - loss).mean().item(), rel=1e-4)


@given(seeds, st.lists(st.floats(0.1, 5), min_size=4, max_size=4))
def test_cross_entropy_is_that_of_torch(seed, weights):
    weights = torch.tensor(weights)
    logits, labels = random_batch(seed, 4, 4)
    expected = F.nll_loss(logits.log_softmax(1), labels, weights)
    assert cross_entropy(logits, labels, weights).item() == pytest.approx(expected.item(), rel=1e-5)
    logits, labels = random_batch(seed, 1, 2)
    pixels = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none")
    weight = weights[labels]
    expected = (weight * pixels).sum() / weight.sum()
    assert cross_entropy(logits, labels, weights[:2]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_entropy_by_hand():
    """−(2 log ¾ + 6 log ¼) / 8: the foreground pixel counts three times the background one."""
    logits = torch.tensor([[[[math.log(1 / 3), math.log(1 / 3)]]]])
    found = cross_entropy(logits, torch.tensor([[[0, 1]]]), torch.tensor([2.0, 6.0]))
    assert found.item() == pytest.approx(-(2 * math.log(3 / 4) + 6 * math.log(1 / 4)) / 8)


@given(seeds)
def test_one_logit_is_two_of_which_the_first_is_zero(seed):
    logits, labels = random_batch(seed, 1, 2)
    both = torch.cat([torch.zeros_like(logits), logits], 1)
    weights = torch.tensor([0.5, 1.5])
    assert log_dice(logits, labels).item() == pytest.approx(log_dice(both, labels).item(), rel=1e-5)
    expected = cross_entropy(both, labels, weights).item()
    assert cross_entropy(logits, labels, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_losses_have_gradients_that_lower_them(outputs):
    logits, labels = random_batch(0, outputs, max(2, outputs))
    weights = torch.ones(max(2, outputs))
    for loss in (log_dice, lambda *batch: cross_entropy(*batch, weights)):
        leaf = logits.clone().requires_grad_()
        before = loss(leaf, labels)
        before.backward()
        assert loss(logits - leaf.grad, labels) < before


def test_class_weights_by_hand():
    """Shares 6/8 and 2/8: weights as 1 : 3, with mean 1."""
    masks = [np.array([[0, 0], [0, 1]], np.uint8), np.array([[0, 1], [0, 0]], np.uint8)]
    assert class_weights(class_shares(masks, 2)).tolist() == [0.5, 1.5]


def test_a_class_that_never_comes_weighs_nothing():
    assert class_weights(class_shares([np.array([[0, 2]], np.uint8)], 3)).tolist() == [1.5, 0, 1.5]


@pytest.mark.parametrize(("count", "batch"), [(3, 2), (3, 3), (5, 8), (1, 4)])
def test_each_sample_is_drawn_as_often_as_the_others(count, batch):
    draw = Draw([painted(str(number), [[0, 1], [1, 0]]) for number in range(count)], STILL, batch)
    rng, seen = np.random.default_rng(0), Counter()
    for step in range(1, 4 * count + 1):
        drawn = [sample.case for sample in draw(rng)]
        assert len(drawn) == batch
        seen.update(drawn)
        fewest = min(seen[str(number)] for number in range(count))
        assert max(seen.values()) - fewest <= 1, step
    assert seen == Counter({str(number): 4 * batch for number in range(count)})


def test_the_order_is_the_seeds():
    samples = [painted(str(number), [[0, 1], [1, 0]]) for number in range(20)]
    orders = [[s.case for s in Draw(samples, STILL, 20)(np.random.default_rng(seed))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_drawn_sample_is_varied():
    draw = Draw([clicked("a", (25.0, 25.0))], Augment(), 8)
    assert len({sample.point for sample in draw(np.random.default_rng(0))}) == 8


def test_localization_error_is_in_native_pixels():
    """Native (100, 200) in a square of 50: a pixel of the square is 4 native ones; the picture begins at row 12."""
    sample = clicked("a", (12 + 10.0, 20.0))
    exact = torch.tensor([[(22 + 0.5) / 50, (20 + 0.5) / 50]])
    assert localize(Says(exact), [sample])[0][:2] == pytest.approx([0, 0], abs=1e-4)
    off = exact + torch.tensor([[3 / 50, 4 / 50]])
    ((error, share, doubt),) = localize(Says(off), [sample])
    inner = Letterbox((100, 200), 50).inner
    assert inner == (25, 50)
    assert error == pytest.approx(5 * 4, rel=1e-4) and share == pytest.approx(error / 200)
    assert np.isnan(doubt)


def test_the_score_of_a_localizer_is_the_median_error():
    samples = [clicked(str(number), (20.0, 20.0), (50, 50)) for number in range(10)]
    answers = torch.tensor([[(20.5 + number) / 50, 20.5 / 50] for number in range(10)])
    model = Says(answers)
    scores = Localize(samples, samples, STILL, 2).evaluate(model, samples)
    assert scores["error"] == pytest.approx(4.5, abs=1e-3)
    assert scores["error_p95"] == pytest.approx(np.percentile(range(10), 95), abs=1e-3)
    assert scores["reach"] == pytest.approx(scores["error_p95"] / 50)
    assert "doubt" not in scores, "a regression knows none"
    assert model.batches == [8, 2]


@pytest.mark.parametrize(("doubts", "factor"), [((0.1, 0.2), 0.1 / 0.05**0.5), ((0.0, 0.0), None)])
def test_doubt_is_calibrated_by_the_errors(doubts, factor):
    """Errors of 3 and 4 of 50 pixels with doubts of 0.1 and 0.2 of the side: √(9 + 16) / 50 over √0.05."""
    samples = [clicked(str(number), (20.0, 20.0), (50, 50)) for number in range(2)]
    model = Says(torch.tensor([[(20.5 + off) / 50, 20.5 / 50] for off in (3, 4)]))
    model.places = lambda output: torch.column_stack([output, torch.tensor(doubts)])
    scores = Localize(samples, samples, STILL, 2).evaluate(model, samples)
    assert scores.get("calibration") == (factor and pytest.approx(factor, rel=1e-4))


def test_the_loss_of_a_localizer_is_the_mean_squared_error():
    objective = Localize([clicked("a", (24.5, 9.5))], [], STILL, 2)
    images, target = objective.batch(np.random.default_rng(0))
    assert images.shape == (2, 1, 50, 50)
    assert target.tolist() == [[pytest.approx(0.5), pytest.approx(0.2)]] * 2
    model = Says(torch.tensor([[0.6, 0.2], [0.5, 0.0]]))
    assert objective.loss(model, (images, target)).item() == pytest.approx((0.1**2 + 0.2**2) / 4)


def segment(samples, classes, loss="dice"):
    return Segment(samples, samples, STILL, 2, classes, loss)


def test_the_planes_of_a_case_count_together():
    """One plane all found, one all missed: 2·4 / (4 + 8), not the mean of 1 and 0; the other case is perfect."""
    full = [[1, 1], [1, 1]]
    samples = [painted("volume", full), painted("volume", full), painted("photo", [[0, 1], [0, 0]])]
    logits = one_hot([full, [[0, 0], [0, 0]], [[0, 1], [0, 0]]], 2)
    assert segment(samples, 2).evaluate(Says(logits), samples)["dice"] == pytest.approx((8 / 12 + 1) / 2)
    single = logits[:, 1:] - logits[:, :1]
    assert segment(samples, 2).evaluate(Says(single), samples)["dice"] == pytest.approx((8 / 12 + 1) / 2)


def test_a_class_in_neither_is_left_out_and_one_that_is_invented_counts_as_0():
    samples = [painted("a", [[0, 1], [0, 1]])]
    scores = [
        segment(samples, 3).evaluate(Says(one_hot([found], 3)), samples)["dice"]
        for found in ([[0, 1], [0, 1]], [[2, 1], [0, 1]], [[0, 1], [0, 0]])
    ]
    assert scores == pytest.approx([1, (1 + 0) / 2, 2 / 3])


def test_a_case_without_any_foreground_is_left_out_of_the_mean():
    empty, half = painted("empty", [[0, 0], [0, 0]]), painted("half", [[0, 1], [0, 1]])
    found = one_hot([[[0, 0], [0, 0]], [[0, 1], [0, 0]]], 2)
    assert segment([empty, half], 2).evaluate(Says(found), [empty, half])["dice"] == pytest.approx(2 / 3)
    assert segment([empty, half], 2).evaluate(Says(found), [empty]) == {}


@pytest.mark.parametrize("objective", [segment([painted("a", [[0, 1], [0, 1]])], 2), Localize([], [], STILL, 2)])
def test_nothing_to_judge_by_gives_no_score(objective):
    assert objective.evaluate(Says(torch.zeros(0)), []) == {}


def test_both_is_the_sum():
    samples = [painted("a", [[0, 1], [2, 1]]), painted("b", [[1, 1], [0, 0]])]
    images, labels = segment(samples, 3).batch(np.random.default_rng(0))
    assert labels.shape == (2, 2, 2)
    assert labels.dtype == torch.int64
    logits = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    dice, entropy, both = (
        segment(samples, 3, loss).loss(Says(logits), (images, labels)).item()
        for loss in ("dice", "cross-entropy", "both")
    )
    assert dice == pytest.approx(log_dice(logits, labels).item())
    weights = class_weights(class_shares((sample.labels for sample in samples), 3))
    assert entropy == pytest.approx(cross_entropy(logits, labels, weights).item())
    assert both == pytest.approx(dice + entropy)


@settings(max_examples=5)
@given(seeds)
def test_low_precision_outputs_are_judged_in_full(seed):
    samples = [painted("a", [[0, 1], [0, 1]])]
    logits = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(seed)).bfloat16()
    batch = segment(samples, 2).batch(np.random.default_rng(0))
    loss = segment(samples, 2).loss(Says(logits), batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(log_dice(logits.float(), batch[1]).item())


def test_the_loss_fits_the_number_of_classes():
    assert (pick_loss("auto", 2), pick_loss("auto", 3)) == ("dice", "both")
    assert pick_loss("cross-entropy", 2) == "cross-entropy"


def test_the_shares_are_those_of_the_picture_and_not_of_what_surrounds_it():
    frame = Letterbox((2, 8), 8)
    labels = frame.labels(np.array([[1, 0] * 4] * 2, np.uint8))
    sample = Sample(case="wide", image=np.zeros((1, 8, 8)), frame=frame, labels=labels)
    assert labels.mean() < 0.2
    assert segment([sample], 2).shares.tolist() == [0.5, 0.5]


def test_a_look_is_at_a_bounded_number_of_planes_of_each_case():
    seen = segment([*planes("a", 200), *planes("b", 200), *planes("c", 10)], 200).validation
    counts = Counter(sample.case for sample in seen)
    assert sum(counts.values()) <= 64 and min(counts.values()) == counts["c"] == 10
    firsts = [int(sample.labels[0, 0]) for sample in seen if sample.case == "a"]
    assert np.diff(firsts).tolist() == [10] * 19, "evenly spaced"
    many = spread([plane for number in range(40) for plane in planes(str(number), 9)])
    assert set(Counter(sample.case for sample in many).values()) == {3}


def test_photographs_are_all_looked_at():
    photographs = [painted(str(number), [[0, 1], [0, 1]]) for number in range(100)]
    assert segment(photographs, 2).validation == photographs


@pytest.mark.parametrize("objective", [segment(planes("a", 2), 2), Localize([], [], STILL, 2)])
def test_a_stop_ends_a_look_after_the_batch(objective):
    control = Control()

    class Stopping(Says):
        def forward(self, images):
            control.stop = len(self.batches) == 1
            return super().forward(images)

    samples = [replace(sample, point=(0.5, 0.5)) for sample in planes("a", 2) * 15]
    model = Stopping(torch.zeros(30, 2) if isinstance(objective, Localize) else torch.zeros(30, 2, 2, 2))
    objective.evaluate(model, samples, control)
    assert model.batches == [8, 8]
