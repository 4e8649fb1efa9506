"""Several labels of an image at once: the focal loss, and how good the scores are.

References
----------
.. [1] Lin et al., "Focal loss for dense object detection", ICCV 2017.
.. [2] Yan et al., "Holistic and comprehensive annotation of clinically significant findings on diverse CT images",
   CVPR 2019: weights by label, propagated scores, exclusive labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from napari_tlseg.data.augment import Augment
from napari_tlseg.events import Control
from napari_tlseg.learn.objectives import Batch, Draw, images_of, outputs
from napari_tlseg.learn.samples import Sample

Floats = NDArray[np.floating]


class Classify:
    """The labels of an image, by weighted focal loss on a `Classifier`'s scores before and after propagation.

    Samples without tags of their own have those of their mask: label k is there where class k + 1 is. `exclusive` are
    groups of labels, by place, of which an image has one at most.
    """

    leading, sign = "auc", 1

    def __init__(
        self,
        training: Sequence[Sample],
        validation: Sequence[Sample],
        augment: Augment,
        batch: int,
        labels: Sequence[str],
        exclusive: Sequence[Sequence[int]] = (),
        gamma: float = 2.0,
    ) -> None:
        self._draw, self.validation = Draw(training, augment, batch), validation
        self._labels, self._exclusive, self._gamma = labels, exclusive, gamma
        self.weights = label_weights(self._tags(training))

    def batch(self, rng: np.random.Generator) -> Batch:
        """Images, and tags (B, L): 1, 0, or NaN where nobody knows."""
        samples = self._draw(rng)
        return images_of(samples), self.target(samples)

    def target(self, samples: Sequence[Sample]) -> Tensor:
        """What the model should say of samples."""
        return torch.from_numpy(self._tags(samples)).float()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean over both scores."""
        return self.cost(model(batch[0]), batch[1])

    def cost(self, scores: Tensor, tags: Tensor) -> Tensor:
        """The loss of what a model has said, (B, 2, L), against (B, L)."""
        scores = scores.float()
        return focal_loss(scores, tags[:, None].expand(-1, 2, -1), self.weights.to(scores.device), self._gamma)

    def evaluate(self, model: nn.Module, samples: Sequence[Sample], control: Control | None = None) -> dict[str, float]:
        """`auc`, `f1`, `precision` and `recall`, means over the labels where they are defined, and of each label."""
        found = [torch.sigmoid(scores[:, 1]).cpu().numpy() for _, scores in outputs(model, samples, control)]
        if not found or (control is not None and control.stop):
            return {}
        return judge(self._tags(samples), np.concatenate(found), self._labels, self._exclusive)

    def _tags(self, samples: Sequence[Sample]) -> Floats:
        return np.array([tags_of(sample, len(self._labels)) for sample in samples]).reshape(-1, len(self._labels))


def tags_of(sample: Sample, count: int) -> Sequence[float]:
    """Those of the image, or else which of `count` foreground classes its mask holds."""
    if sample.tags is not None:
        return sample.tags
    assert sample.labels is not None
    return [float((sample.labels == label).any()) for label in range(1, count + 1)]


def focal_loss(scores: Tensor, tags: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """The mean of −w (1 − p)^γ log p over all tags that are known, p the probability of what is true [1]_.

    scores: logits; tags: 1, 0 or NaN, of the same shape (…, L). weights: (2, L), of absent and present. At γ = 0 it is
    weighted binary cross-entropy.
    """
    known = ~torch.isnan(tags)
    truth = torch.where(known, tags, 0)
    log_p = F.logsigmoid(torch.where(truth > 0, scores, -scores))
    weight = torch.where(truth > 0, weights[1], weights[0])
    losses = -weight * (1 - log_p.exp()) ** gamma * log_p
    return torch.where(known, losses, 0).sum() / known.sum().clamp(min=1)


def label_weights(tags: Floats) -> Tensor:
    """(2, L): of each label half for all absent and half for all present together; 1 where one kind never comes."""
    counts = np.stack([(tags == value).sum(0) for value in (0, 1)]).astype(float)
    total = counts.sum(0)
    weights = np.divide(total, 2 * counts, out=np.ones_like(counts), where=counts.min(0) > 0)
    return torch.from_numpy(weights).float()


def judge(tags: Floats, found: Floats, labels: Sequence[str], exclusive: Sequence[Sequence[int]]) -> dict[str, float]:
    """Scores of each label and their means; (N, L) both, `found` as probabilities. What is not defined is left out.

    A label counts as found from a probability of ½, of exclusive ones the likeliest alone.
    """
    chosen, scores = keep_likeliest(found, exclusive) >= 0.5, dict[str, float]()
    for place, label in enumerate(labels):
        known = ~np.isnan(tags[:, place])
        truth = tags[known, place] == 1
        each = {"auc": auc(truth, found[known, place]), **rates(truth, chosen[known, place])}
        scores |= {f"{name} {label}": value for name, value in each.items() if not np.isnan(value)}
    return {**_means(scores), **scores}


def auc(truth: NDArray[np.bool_], found: Floats) -> float:
    """Area under the ROC curve: how often one that is there scores above one that is not, ties half; NaN without both.

    By ranks, as the statistic of Mann and Whitney.
    """
    present, absent = int(truth.sum()), int((~truth).sum())
    if not present or not absent:
        return float("nan")
    ranks = float(rankdata(found)[truth].sum())
    return (ranks - present * (present + 1) / 2) / (present * absent)


def rates(truth: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Precision and recall, NaN where nothing was chosen or nothing is there, and F1, NaN where both hold."""
    hits, marked, there = int((truth & chosen).sum()), int(chosen.sum()), int(truth.sum())
    return {
        "f1": 2 * hits / (marked + there) if marked + there else float("nan"),
        "precision": hits / marked if marked else float("nan"),
        "recall": hits / there if there else float("nan"),
    }


def keep_likeliest(found: Floats, exclusive: Sequence[Sequence[int]]) -> Floats:
    """Probabilities (N, L), of each exclusive group all but the highest set to 0."""
    kept = found.copy()
    for group in exclusive:
        places = np.array(group)
        best = places[found[:, places].argmax(axis=1)]
        kept[:, places] = 0
        rows = np.arange(len(found))
        kept[rows, best] = found[rows, best]
    return kept


def _means(scores: dict[str, float]) -> dict[str, float]:
    found = {name: [v for key, v in scores.items() if key.startswith(f"{name} ")] for name in ("auc", *RATES)}
    return {name: float(np.mean(values)) for name, values in found.items() if values}


RATES = ("f1", "precision", "recall")
