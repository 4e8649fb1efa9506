"""Prepared planes, ready to be drawn for training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.augment import Augment, Change
from napari_tlseg.data.case import Case, Labels
from napari_tlseg.data.images import image_of
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import Recipe

DRAWS = 50
IGNORED = 255
"""Among labels: of this pixel nobody knows, it is in no loss and no score."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One plane as the network sees it, with its mask or its click on the same grid."""

    case: str
    image: NDArray[np.floating]
    """(C, S, S) in [0, 1]."""
    frame: Letterbox
    labels: Labels | None = None
    """(S, S)."""
    point: tuple[float, float] | None = None
    """(y, x), pixels of the square."""
    tags: tuple[float, ...] | None = None
    """Of each label 1, 0, or NaN where nobody knows."""
    task: int = 0
    """Which of several datasets it is of, by place."""
    kept: int | None = None
    """Side of the middle that the network sees: what lies around it comes in when the sample is moved. None for all."""

    def middle(self) -> Sample:
        """What the network sees, unvaried."""
        if self.kept is None:
            return self
        start = (self.image.shape[-1] - self.kept) // 2
        seen = (..., slice(start, start + self.kept), slice(start, start + self.kept))
        labels = None if self.labels is None else self.labels[seen]
        return replace(self, image=self.image[seen], labels=labels)

    def varied(self, augment: Augment, rng: np.random.Generator) -> Sample:
        """The sample, changed at random; a click never leaves the square."""
        change = self._change(augment, rng)
        return replace(
            self,
            image=change.image(self.image.astype(np.float32)),
            labels=None if self.labels is None else change.labels(self.labels),
            point=None if self.point is None else change.point(*self.point),
        ).middle()

    def _change(self, augment: Augment, rng: np.random.Generator) -> Change:
        """One that keeps the click; none at all where chance finds none, as for a click in a corner."""
        size = self.image.shape[-1]
        for _ in range(DRAWS):
            change = augment.draw(rng, size, self.kept)
            if self.point is None or all(-0.5 <= place <= size - 0.5 for place in change.point(*self.point)):
                return change
        return Change(matrix=np.eye(2, 3))


def mask_samples(case: Case, recipe: Recipe, size: int, classes: int) -> list[Sample]:
    """The painted planes of a case."""
    image = image_of(case)
    return _painted(case, recipe.squares(image, case.planes, size), recipe.frame(image, size), classes)


def crop_samples(case: Case, recipe: Recipe, frame: Letterbox, classes: int, kept: int | None = None) -> list[Sample]:
    """The painted planes of a case within a crop, of which the middle `kept` pixels are to be seen."""
    natives = recipe.natives(image_of(case), case.planes)
    squares = (recipe.crop(native, frame, kept) for native in natives)
    return [replace(sample, kept=kept) for sample in _painted(case, squares, frame, classes)]


def _painted(case: Case, squares: Iterator[NDArray[np.float32]], frame: Letterbox, classes: int) -> list[Sample]:
    masks = read_mask(case, classes)
    return [
        Sample(case=case.name, image=square.astype(np.float16), frame=frame, labels=frame.labels(masks[plane]))
        for plane, square in zip(case.planes, squares, strict=True)
    ]


def label_samples(case: Case, recipe: Recipe, size: int) -> list[Sample]:
    """The image of a case, with its labels."""
    image = image_of(case)
    (square,) = recipe.squares(image, [0], size)
    frame = recipe.frame(image, size)
    return [Sample(case=case.name, image=square.astype(np.float16), frame=frame, tags=case.tags)]


def click_samples(case: Case, recipe: Recipe, size: int) -> list[Sample]:
    """The clicked plane of a case; none where no target is visible."""
    if not case.click:
        return []
    plane, y, x = case.geometry.point_to_planes(case.click)
    image = image_of(case)
    (square,) = recipe.squares(image, [plane], size)
    frame = recipe.frame(image, size)
    return [Sample(case=case.name, image=square.astype(np.float16), frame=frame, point=frame.point(y, x))]
