"""The focal loss and the scores of several labels, by hand and by independent definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.learn.classify import Classify, auc, focal_loss, judge, keep_likeliest, label_weights, rates, tags_of
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.classifier import Classifier
from napari_tlseg.nets.encoders import make_encoder

NAN = math.nan
STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)
seeds = st.integers(0, 2**31 - 1)


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, tags and weights of 7 images and 4 labels."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(7, 4, generator=generator)
    return scores, torch.randint(2, (7, 4), generator=generator).float(), torch.rand(2, 4, generator=generator)


@given(seeds)
def test_at_gamma_0_it_is_cross_entropy(seed: int) -> None:
    scores, tags, weights = drawn(seed)
    plain = F.binary_cross_entropy_with_logits(scores, tags)
    assert focal_loss(scores, tags, torch.ones(2, 4), 0).item() == pytest.approx(plain.item(), rel=1e-4)
    weight = torch.where(tags == 1, weights[1], weights[0])
    weighted = F.binary_cross_entropy_with_logits(scores, tags, weight)
    assert focal_loss(scores, tags, weights, 0).item() == pytest.approx(weighted.item(), rel=1e-4)


@given(seeds, st.floats(0, 5))
def test_it_is_the_equation_of_lin_et_al(seed: int, gamma: float) -> None:
    scores, tags, weights = drawn(seed)
    total = 0.0
    for score, tag, (absent, present) in zip(
        scores.double().ravel().tolist(), tags.ravel().tolist(), weights.T.repeat(7, 1).tolist(), strict=True
    ):
        p = 1 / (1 + math.exp(-score))
        p_t, weight = (p, present) if tag else (1 - p, absent)
        total -= weight * (1 - p_t) ** gamma * math.log(p_t)
    assert focal_loss(scores, tags, weights, gamma).item() == pytest.approx(total / 28, rel=1e-3, abs=1e-7)


def test_what_is_not_known_neither_counts_nor_pulls() -> None:
    scores = torch.tensor([[1.0, -2.0]], requires_grad=True)
    loss = focal_loss(scores, torch.tensor([[1.0, NAN]]), torch.ones(2, 2), 2)
    loss.backward()
    p = 1 / (1 + math.exp(-1))
    assert loss.item() == pytest.approx(-((1 - p) ** 2) * math.log(p))
    assert scores.grad is not None and scores.grad[0, 0] < 0 and scores.grad[0, 1] == 0
    assert focal_loss(scores, torch.full((1, 2), NAN), torch.ones(2, 2), 2) == 0


def test_absent_and_present_weigh_the_same_together() -> None:
    tags = np.array([[1, 0, 1], [0, 0, NAN], [0, 0, 1], [0, 0, 0]])
    weights = label_weights(tags).numpy()
    np.testing.assert_allclose(weights, [[4 / 6, 1, 3 / 2], [2, 1, 3 / 4]], rtol=1e-6)
    assert weights[1, 0] * 1 == pytest.approx(weights[0, 0] * 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[bool, int]]) -> None:
    truth, found = np.array([t for t, _ in pairs]), np.array([f / 4 for _, f in pairs])
    above = [(p > a) + (p == a) / 2 for p in found[truth] for a in found[~truth]]
    expected = np.mean(above) if above else NAN
    assert auc(truth, found) == pytest.approx(expected, nan_ok=True)


def test_rates_by_hand() -> None:
    truth, chosen = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert rates(truth, chosen) == pytest.approx({"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5})
    nothing = rates(truth & False, chosen & False)
    assert all(map(math.isnan, nothing.values())) and nothing.keys() == {"precision", "recall", "f1"}


def test_of_exclusive_labels_the_likeliest_stays() -> None:
    found = np.array([[0.6, 0.9, 0.7, 0.8], [0.9, 0.2, 0.6, 0.1]])
    kept = keep_likeliest(found, [[0, 1], [2, 3]])
    assert kept.tolist() == [[0, 0.9, 0, 0.8], [0.9, 0, 0.6, 0]] and found[0, 0] == 0.6


def test_judging_leaves_out_what_is_not_defined() -> None:
    tags = np.array([[1, 0, 1], [0, 0, NAN], [1, 0, 0]])
    found = np.array([[0.9, 0.1, 0.8], [0.4, 0.2, 0.9], [0.3, 0.1, 0.2]])
    scores = judge(tags, found, ("a", "b", "c"), ())
    assert scores["auc a"] == 0.5 and scores["auc c"] == 1 and "auc b" not in scores
    assert "f1 b" not in scores and "recall b" not in scores, "it is in none, and found in none"
    assert scores["precision a"] == 1 and scores["recall a"] == 0.5 and scores["precision c"] == 1
    assert scores["auc"] == pytest.approx(0.75) and scores["recall"] == pytest.approx(0.75)
    excluded = judge(tags, found, ("a", "b", "c"), [[0, 2]])
    assert excluded["recall c"] == 0, "a was likelier, so c was not found"


def picture(bright: bool, dark: bool, number: int) -> Sample:
    image = np.full((1, 32, 32), 0.5) + np.random.default_rng(number).normal(0, 0.05, (1, 32, 32))
    image[:, 4:12, 4:12] += 0.4 * bright
    image[:, 18:28, 18:28] -= 0.4 * dark
    return Sample(case=str(number), image=image, frame=Letterbox((32, 32), 32), tags=(float(bright), float(dark)))


def test_labels_follow_from_a_mask() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[0, 0] = 3
    sample = Sample(case="a", image=np.zeros((1, 8, 8)), frame=Letterbox((8, 8), 8), labels=labels)
    assert tags_of(sample, 3) == [0, 0, 1]
    assert tags_of(picture(True, False, 0), 2) == (1, 0)


def test_a_classifier_learns_what_is_in_a_picture() -> None:
    """And both scores are trained: the loss of a batch moves the propagation too."""
    torch.manual_seed(0)
    samples = [picture(bool(number & 1), bool(number & 2), number) for number in range(24)]
    objective = Classify(samples[:16], samples[16:], STILL, 8, ("bright", "dark"))
    net, rng = Classifier(make_encoder("unet", 1), 2), np.random.default_rng(0)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    assert isinstance(net, nn.Module) and torch.equal(net.propagation.weight, torch.eye(2))
    for _ in range(60):
        optimizer.zero_grad()
        objective.loss(net, objective.batch(rng)).backward()
        optimizer.step()
    with torch.inference_mode():
        scores = objective.evaluate(net.eval(), objective.validation)
    assert scores["auc"] > 0.95 and {"auc bright", "f1 dark"} <= scores.keys()
    assert not torch.equal(net.propagation.weight, torch.eye(2))
    assert objective.evaluate(net, []) == {}
