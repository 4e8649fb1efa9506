"""What is learned: which samples are drawn, the loss on a batch, and how good the model is on validation cases."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_tlseg.data.augment import Augment
from napari_tlseg.events import Control
from napari_tlseg.learn.samples import IGNORED, Sample
from napari_tlseg.nets.heads import AnyLocalizer
from napari_tlseg.nets.unet import probabilities
from napari_tlseg.options import Loss

LOOK, FEWEST = 64, 4
"""Planes of the validation cases that a look during training is at: so many in all, but at least so many of a case."""
PLANES_IN_A_PATCH = 4
"""A patch of a volume counts as so many planes."""
TOGETHER = 8
"""Planes that pass the network at once in a look."""
Batch = tuple[Tensor, Tensor]
"""Images (B, C, S, S) or patches (B, C, D, P, P) float32 in [0, 1], and what the model should say of them."""


class Objective(Protocol):
    """What `fit` needs to know of a task."""

    leading: str
    """The score by which weights are chosen."""
    sign: int
    """+1 where more of it is better, -1 where less is."""
    validation: Sequence[Sample]
    """What is looked at while training."""

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw and vary training samples."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar; without the anchor's penalty."""

    def evaluate(
        self, model: nn.Module, samples: Sequence[Sample], control: Control | None = None
    ) -> Mapping[str, float]:
        """Scores on samples, unvaried; empty where there is nothing to judge by. A stop leaves them incomplete."""


class Draw:
    """Samples in a fresh random order each time round, so that each comes as often as the others."""

    def __init__(self, samples: Sequence[Sample], augment: Augment, size: int) -> None:
        self._samples, self._augment, self._size = samples, augment, size
        self._queue: list[int] = []

    def __call__(self, rng: np.random.Generator) -> list[Sample]:
        """The next batch of `size` varied samples."""
        while len(self._queue) < self._size:
            self._queue.extend(rng.permutation(len(self._samples)).tolist())
        chosen, self._queue = self._queue[: self._size], self._queue[self._size :]
        return [self._samples[index].varied(self._augment, rng) for index in chosen]


class Localize:
    """The target's centre as (y, x), by the loss of the localizer's head."""

    leading, sign = "error", -1

    def __init__(self, training: Sequence[Sample], validation: Sequence[Sample], augment: Augment, batch: int) -> None:
        self._draw, self.validation = Draw(training, augment, batch), validation

    def batch(self, rng: np.random.Generator) -> Batch:
        """Images, and centres (B, 2) as fractions of the side."""
        samples = self._draw(rng)
        return images_of(samples), torch.tensor([_fraction(sample) for sample in samples])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The head's own: mean squared error (Hu et al.), or the cross-entropy of a heat map."""
        assert isinstance(model, AnyLocalizer)
        return model.loss(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, samples: Sequence[Sample], control: Control | None = None) -> dict[str, float]:
        """Of the distance to the click and, where the head knows it, of the doubt: median and 95th percentile.

        `error`, `error_p95`: native pixels; `doubt`, `doubt_p95`: shares of the longer side, as `reach`, which is
        `error_p95` in that unit. `calibration`: root mean square of the error over that of the doubt, by which a doubt
        becomes an error to be expected (Levi et al., "Evaluating and calibrating uncertainty prediction in regression
        tasks", 2022).
        """
        found = localize(model, samples, control)
        if not found:
            return {}
        errors, shares, doubts = np.array(found).T
        return {
            **_both("error", errors),
            "reach": float(np.percentile(shares, 95)),
            **({} if np.isnan(doubts).any() else {**_both("doubt", doubts), **_calibration(shares, doubts)}),
        }


class Segment:
    """The class of each pixel, by −log soft Dice (Hu et al.), class-weighted cross-entropy (Sagie et al.), or both."""

    leading, sign = "dice", 1

    def __init__(
        self,
        training: Sequence[Sample],
        validation: Sequence[Sample],
        augment: Augment,
        batch: int,
        classes: int,
        loss: Loss,
    ) -> None:
        self._draw = Draw(training, augment, batch)
        self.validation: Sequence[Sample] = spread(validation)
        self._classes, self._loss = classes, loss
        self.shares = class_shares(map(_picture, training), classes)
        self._weights = class_weights(self.shares)

    def batch(self, rng: np.random.Generator) -> Batch:
        """Images, and labels (B, S, S) int64; patches of volumes, and theirs (B, D, P, P)."""
        samples = self._draw(rng)
        return images_of(samples), self.target(samples)

    def target(self, samples: Sequence[Sample]) -> Tensor:
        """What the model should say of samples."""
        return torch.from_numpy(np.stack([_labels(sample) for sample in samples])).long()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The chosen loss; of 'both', the sum."""
        return self.cost(model(batch[0]), batch[1])

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of what a model has said."""
        logits = logits.float()
        dice = log_dice(logits, labels) if self._loss != "cross-entropy" else logits.new_zeros(())
        return dice + (cross_entropy(logits, labels, self._weights) if self._loss != "dice" else 0)

    def evaluate(self, model: nn.Module, samples: Sequence[Sample], control: Control | None = None) -> dict[str, float]:
        """`dice`: mean over foreground classes, then cases, on the network's grid; a case's planes count together."""
        counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros((2, self._classes - 1), np.int64))
        for chunk, found in outputs(model, samples, control):
            for sample, labels in zip(chunk, probabilities(found).argmax(1).cpu().numpy(), strict=True):
                counts[sample.case] += _overlap(_labels(sample), labels, self._classes)
        with np.errstate(invalid="ignore"):
            dice = [count[0] / count[1] for count in counts.values()]  # NaN where a class is in neither
        judged = [float(np.nanmean(case)) for case in dice if not np.isnan(case).all()]
        return {"dice": float(np.mean(judged))} if judged else {}


def spread(samples: Sequence[Sample]) -> list[Sample]:
    """Evenly spaced planes or patches of each case, so that a look takes about as long for volumes as for photographs.

    Every 25 steps all planes of three CTs would take much longer than the training.
    """
    cases = [list(planes) for _, planes in groupby(samples, key=lambda sample: sample.case)]
    share = max(FEWEST, LOOK // max(1, len(cases))) // (PLANES_IN_A_PATCH if in_patches(samples) else 1)
    return [plane for planes in cases for plane in planes[:: math.ceil(len(planes) / share)]]


def in_patches(samples: Sequence[Sample]) -> bool:
    """Whether they are of volumes: (C, D, P, P) each, and not (C, S, S)."""
    return bool(samples) and samples[0].image.ndim == 4


def pick_loss(name: Loss | Literal["auto"], classes: int) -> Loss:
    """Dice alone for one foreground class, both for several: Dice alone learns the rare ones slowly."""
    if name != "auto":
        return name
    return "dice" if classes == 2 else "both"


def log_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """−log soft Dice over the batch, averaged over foreground classes.

    −log((2 Σ p·g + 1) / (Σ p + Σ g + 1)), p the probabilities, g the mask (Hu et al.).
    logits: (B, K, ...) float32, labels: (B, ...) int64; where they are `IGNORED` nothing counts.
    """
    known = (labels != IGNORED).unsqueeze(1)
    found = probabilities(logits)[:, 1:] * known
    truth = F.one_hot(labels * known[:, 0], found.shape[1] + 1).movedim(-1, 1)[:, 1:].to(found.dtype)
    rest = (0, *range(2, found.ndim))
    overlap, total = (found * truth).sum(rest), (found + truth).sum(rest)
    return -torch.log((2 * overlap + 1) / (total + 1)).mean()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy weighted by class, sigmoid for one logit and softmax for more (Sagie et al.)."""
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # sigmoid(a) = softmax(0, a)
    return F.cross_entropy(logits, labels, weights.to(logits.device), ignore_index=IGNORED)


def class_shares(masks: Iterable[NDArray[np.uint8]], classes: int) -> Tensor:
    """(classes,) float32: the share of the pixels that each class has."""
    counts = sum((np.bincount(mask.ravel(), minlength=classes)[:classes] for mask in masks), start=np.zeros(classes))
    return torch.tensor(counts / max(counts.sum(), 1), dtype=torch.float32)


def class_weights(shares: Tensor) -> Tensor:
    """(classes,) inverse to each class's share of the pixels, with mean 1; a class that never comes gets 0."""
    weights = torch.where(shares > 0, 1 / shares.clamp(min=1e-12), 0)
    return weights / weights.mean()


def localize(
    model: nn.Module, samples: Sequence[Sample], control: Control | None = None
) -> list[tuple[float, float, float]]:
    """(error, error, doubt) of each sample: the Euclidean distance from prediction to click.

    In native pixels, and as a share of the longer side; so is the doubt, NaN where the head knows none.
    """
    assert isinstance(model, AnyLocalizer)
    results = []
    for chunk, output in outputs(model, samples, control):
        for sample, (y, x, doubt) in zip(chunk, model.places(output).tolist(), strict=True):
            assert sample.point is not None
            frame, size = sample.frame, sample.frame.size
            native = frame.native_point(y * size - 0.5, x * size - 0.5)
            error = float(np.hypot(*np.subtract(native, frame.native_point(*sample.point))))
            results.append((error, error / max(frame.shape), doubt))
    return results


def _calibration(errors: NDArray[np.float64], doubts: NDArray[np.float64]) -> dict[str, float]:
    """Empty where there was no doubt at all."""
    return {"calibration": float(np.linalg.norm(errors) / np.linalg.norm(doubts))} if doubts.any() else {}


def _both(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    median, high = np.percentile(values, (50, 95))
    return {name: float(median), f"{name}_p95": float(high)}


def outputs(
    model: nn.Module, samples: Sequence[Sample], control: Control | None
) -> Iterator[tuple[Sequence[Sample], Tensor]]:
    device = next(model.parameters()).device
    together = TOGETHER // PLANES_IN_A_PATCH if in_patches(samples) else TOGETHER
    for start in range(0, len(samples), together):
        if control is not None and control.stop:
            return
        chunk = samples[start : start + together]
        yield chunk, model(images_of(chunk).to(device)).float()


def images_of(samples: Sequence[Sample]) -> Tensor:
    """(B, C, S, S) or (B, C, D, P, P) float32."""
    return torch.from_numpy(np.stack([sample.image for sample in samples]).astype(np.float32))


def _labels(sample: Sample) -> NDArray[np.uint8]:
    assert sample.labels is not None
    return sample.labels


def _picture(sample: Sample) -> NDArray[np.uint8]:
    """The labels without the padding of the square."""
    labels = _labels(sample.middle())
    return labels if sample.kept else labels[..., *sample.frame.window]


def _fraction(sample: Sample) -> tuple[float, float]:
    """The click as a fraction of the side: 0 at the outer edge of the first pixel, 1 at that of the last."""
    assert sample.point is not None
    y, x = sample.point
    return (y + 0.5) / sample.frame.size, (x + 0.5) / sample.frame.size


def _overlap(truth: NDArray[np.uint8], found: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(2, classes - 1): twice the pixels in both, and the pixels in each added."""
    known = truth != IGNORED
    pairs = np.bincount(truth[known].astype(np.int64) * classes + found[known], minlength=classes**2)
    pairs = pairs.reshape(classes, classes)
    return np.stack([2 * np.diag(pairs), pairs.sum(0) + pairs.sum(1)])[:, 1:]
