"""Noisy student: what a teacher says of images without labels is learned beside what a person says of others.

References
----------
.. [1] Xie et al., "Self-training with noisy student improves ImageNet classification", CVPR 2020: the noise is on the
   student only, and the student is the next teacher.
.. [2] Virk and Bathula, whose noise for CT this is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.recipes import Recipe
from napari_tlseg.events import Control
from napari_tlseg.learn.classify import Floats, keep_likeliest
from napari_tlseg.learn.objectives import Batch, Draw, Objective, images_of
from napari_tlseg.learn.samples import IGNORED, Sample

TOP = 15
"""Labels of an image that a teacher is asked for at most."""
DROPOUT = 0.5
"""Of a classifier's pooled features, as in [1]_."""


def noisy(recipe: Recipe, modalities: Sequence[str] = ()) -> Augment:
    """The recipe's changes, and the student's: further rotation, resized crops, auto-contrast and, of colours, grey."""
    own, coloured = recipe.augment, not (recipe.grey or modalities)
    return replace(own, rotate=max(own.rotate, 30.0), crop=0.5, stretch=0.3, grey=0.2 if coloured else 0.0)


class Labelled(Objective, Protocol):
    """A task whose loss can be asked of what a model has said."""

    def target(self, samples: Sequence[Sample]) -> Tensor:
        """What the model should say of samples."""

    def cost(self, said: Tensor, target: Tensor) -> Tensor:
        """The loss of what it has said, a scalar."""


class NoisyStudent:
    """Labelled and pseudo-labelled images side by side in every step.

    The loss is (L + w · P) / (1 + w): L of the labelled images, P the same loss of the pseudo-labelled ones, of a
    segmentation over their pixels that are not IGNORED. Its size does not grow with w, so that λ holds as closely as
    without.
    """

    def __init__(
        self, labelled: Labelled, pseudo: Sequence[Sample], augment: Augment, batch: int, weight: float = 1.0
    ) -> None:
        self._labelled, self._draw, self._batch = labelled, Draw(pseudo, augment, batch), batch
        self._weight = weight
        self.leading, self.sign, self.validation = labelled.leading, labelled.sign, labelled.validation

    def batch(self, rng: np.random.Generator) -> Batch:
        """Images and labels, the labelled first; both pass through the network together, as its batch-norm does."""
        images, target = self._labelled.batch(rng)
        more = self._draw(rng)
        return torch.cat([images, images_of(more)]), torch.cat([target, self._labelled.target(more)])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """(L + w · P) / (1 + w)."""
        said, target = model(batch[0]), batch[1]
        own, pseudo = (
            self._cost(said[part], target[part]) for part in (slice(-self._batch), slice(-self._batch, None))
        )
        return (own + self._weight * pseudo) / (1 + self._weight)

    def evaluate(
        self, model: nn.Module, samples: Sequence[Sample], control: Control | None = None
    ) -> Mapping[str, float]:
        """As without a teacher."""
        return self._labelled.evaluate(model, samples, control)

    def _cost(self, said: Tensor, target: Tensor) -> Tensor:
        """Over the pixels that are not ignored; 0 where there are none."""
        return self._labelled.cost(said, target) if (target != IGNORED).any() else said.sum() * 0


def pseudo_tags(found: Floats, exclusive: Sequence[Sequence[int]]) -> Floats:
    """What a classifier says of images (N, L), probabilities, as labels: 1 or 0 [2]_.

    There are those of the TOP likeliest of an image that are more probable than ½, of exclusive ones the likeliest.
    """
    places = np.argsort(np.argsort(-found, axis=1, kind="stable"), axis=1)
    chosen = keep_likeliest(np.where(places < TOP, found, 0), exclusive) > 0.5
    return chosen.astype(np.float32)


def fewer(asked: int, labelled: int, pseudo: int, batch: int) -> int:
    """Pseudo-labelled images per step: as many as asked for, but so few that the labelled come round as often or more.

    >>> fewer(8, labelled=40, pseudo=300, batch=8), fewer(8, labelled=40, pseudo=20, batch=8)
    (8, 4)
    """
    return max(1, min(asked, batch * pseudo // labelled))
