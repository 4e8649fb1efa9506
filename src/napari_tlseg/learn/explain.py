"""What in an image a network's answer comes from: integrated gradients, and what happens where it is taken away.

References
----------
.. [1] Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_tlseg.nets.classifier import Classifier
from napari_tlseg.nets.heads import AnyLocalizer
from napari_tlseg.nets.unet import UNet, probabilities

PATCH = 8
"""A patch is this part of the side."""
SHARES = (0.01, 0.05, 0.1)
"""Of the pixels: how many of the most influential are deleted."""
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One thing that a network says of an image, as a number that gradients flow through."""

    name: str
    score: Callable[[Tensor], Tensor]
    """Images (B, C, S, S) to (B,): a logit, or a place as a fraction of the side."""
    confidence: Callable[[Tensor], float]
    """Of one image (1, C, S, S): a probability, or the same place."""
    region: Callable[[Tensor], Mask] | None = field(default=None)
    """Of one image: the pixels (S, S) that are meant; None where the answer is not of pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """How much each pixel contributed to an answer."""

    answer: Answer
    values: Plane
    """(S, S), summed over the channels; they add up to `difference`."""
    difference: float
    """Score of the image less that of a black one."""
    missed: float
    """By how much the sum of the values is off, as steps are finite."""


def answers(model: torch.nn.Module, image: Tensor, classes: Sequence[str]) -> list[Answer]:
    """What a network says of an image (1, C, S, S): classes that it finds, labels, or where the target is.

    Of a class the score is its mean logit over the pixels where it is found; they stay the same whatever is changed.
    """
    if isinstance(model, UNet):
        return [_of_class(model, image, place, name) for place, name in enumerate(classes) if place]
    if isinstance(model, Classifier):
        return [_of_label(model, place, name) for place, name in enumerate(classes)]
    assert isinstance(model, AnyLocalizer)
    return [_of_place(model, axis, name) for axis, name in enumerate(("y", "x"))]


def _of_class(model: UNet, image: Tensor, place: int, name: str) -> Answer:
    def region(images: Tensor) -> Mask:
        with torch.inference_mode():
            found: Mask = (probabilities(model(images)).argmax(1) == place)[0].cpu().numpy()
        return found

    found = region(image)
    where = torch.from_numpy(found if found.any() else np.ones_like(found)).to(image.device)

    def score(images: Tensor) -> Tensor:
        logits: Tensor = model(images)
        return logits.float()[:, 0 if logits.shape[1] == 1 else place][:, where].mean(1)

    def confidence(images: Tensor) -> float:
        with torch.inference_mode():
            return float(probabilities(model(images))[0, place][where].mean())

    return Answer(name=name, score=score, confidence=confidence, region=region)


def _of_label(model: Classifier, place: int, name: str) -> Answer:
    def score(images: Tensor) -> Tensor:
        scores: Tensor = model(images)
        return scores.float()[:, 1, place]

    return Answer(name=name, score=score, confidence=lambda images: float(torch.sigmoid(_quiet(score, images))))


def _of_place(model: AnyLocalizer, axis: int, name: str) -> Answer:
    def score(images: Tensor) -> Tensor:
        places: Tensor = model.places(model(images))
        return places.float()[:, axis]

    return Answer(name=name, score=score, confidence=lambda images: float(_quiet(score, images)))


def _quiet(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.inference_mode():
        return score(images)


def attribute(answer: Answer, image: Tensor, steps: int = 50) -> Attribution:
    """Integrated gradients [1]_ along the straight line from a black image, by Gauss-Legendre quadrature."""
    from captum.attr import IntegratedGradients  # takes a second to import

    values, _ = IntegratedGradients(answer.score).attribute(
        image, baselines=torch.zeros_like(image), n_steps=steps, internal_batch_size=8, return_convergence_delta=True
    )
    found = values.detach()[0].sum(0).float().cpu().numpy()
    difference = float(_quiet(answer.score, image) - _quiet(answer.score, torch.zeros_like(image)))
    return Attribution(answer=answer, values=found, difference=difference, missed=float(found.sum()) - difference)


def perturb(attribution: Attribution, image: Tensor) -> Iterator[dict[str, float | str | None]]:
    """A row per change of the image: confidence before and after, and the Dice of what is found after and before.

    What was found is filled from its surroundings, a patch turns black where most comes from, and so do the pixels of
    most influence.
    """
    answer = attribution.answer
    before = None if answer.region is None else answer.region(image)
    sure = answer.confidence(image)
    for name, changed in _changes(attribution, image, before):
        after = None if answer.region is None else answer.region(changed)
        yield {
            "answer": answer.name,
            "change": name,
            "before": sure,
            "after": answer.confidence(changed),
            "Dice": None if before is None or after is None else _dice(before, after),
        }


def _changes(attribution: Attribution, image: Tensor, found: Mask | None) -> Iterator[tuple[str, Tensor]]:
    influence = np.abs(attribution.values)
    size = influence.shape[-1]
    if found is not None and found.any():
        yield "filled from its surroundings", fill(image, found)
    side = max(1, size // PATCH)
    mean = cv2.blur(influence, (side, side), borderType=cv2.BORDER_CONSTANT)
    y, x = np.unravel_index(mean.argmax(), mean.shape)
    patch = np.zeros(influence.shape, bool)
    patch[max(0, y - side // 2) : y + side // 2 + 1, max(0, x - side // 2) : x + side // 2 + 1] = True
    yield f"a black patch of {side} px", blacken(image, patch)
    for share in SHARES:
        yield f"the strongest {share:.0%} black", blacken(image, strongest(influence, share))


def strongest(influence: Plane, share: float) -> Mask:
    """The pixels of most influence: that share of them."""
    count = max(1, round(share * influence.size))
    chosen = np.zeros(influence.size, bool)
    chosen[np.argsort(influence, axis=None, kind="stable")[-count:]] = True
    return chosen.reshape(influence.shape)


def blacken(image: Tensor, where: Mask) -> Tensor:
    """The image with these pixels 0."""
    return image * torch.from_numpy(~where).to(image)


def fill(image: Tensor, where: Mask) -> Tensor:
    """The image with these pixels taken from their neighbours, from the edge inwards (Telea's inpainting)."""
    channels = (image[0].detach().float().cpu().numpy().clip(0, 1) * 255 + 0.5).astype(np.uint8)
    grown = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8))  # the edge itself is of both
    filled = np.stack([cv2.inpaint(channel, grown, 3, cv2.INPAINT_TELEA) for channel in channels])
    inside = torch.from_numpy(grown > 0).to(image.device)
    return torch.where(inside, torch.from_numpy(filled / np.float32(255)).to(image), image)


def _dice(one: Mask, other: Mask) -> float | None:
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else None
