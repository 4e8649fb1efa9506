"""How a 3-D network sees a volume: a patch at a time, drawn at random to learn, side by side to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.augment import Augment
from napari_tlseg.data.case import Case
from napari_tlseg.data.images import image_of
from napari_tlseg.data.recipes import Recipe
from napari_tlseg.learn.samples import IGNORED, Sample

T = TypeVar("T", bound=np.generic)
DEPTH, SIDE = 32, 128
"""Of a patch: planes, and pixels of a plane along both sides; two of them fill about as much memory as 8 planes."""
ON_TARGET = 0.5
"""Share of the patches whose middle is on a class of the foreground; the others lie anywhere."""
Place = tuple[int, int, int]
"""(plane, y, x)"""


class Patch(NamedTuple):
    """So many planes of a volume, as they were scanned, and a square of each, in pixels of the recipe's square."""

    depth: int
    side: int

    @classmethod
    def fit(cls, cases: Sequence[Case], size: int) -> Self:
        """32 × 128 × 128, or less where the planes are smaller or no case has so many."""
        return cls(min(DEPTH, max(case.geometry.plane_shape[0] for case in cases)), min(SIDE, size))

    @property
    def shape(self) -> Place:
        return self.depth, self.side, self.side

    def tiles(self, shape: Sequence[int]) -> Iterator[Place]:
        """First voxels of patches that lie side by side and cover a volume of that shape; the last may overhang."""
        steps = (range(0, ceil(whole / part) * part, part) for whole, part in zip(shape, self.shape, strict=True))
        yield from product(*steps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume(Sample):
    """All planes of a case: image (C, Z, S, S), labels (Z, S, S), `IGNORED` on planes that nobody painted.

    What is drawn of it for training is a patch.
    """

    patch: Patch

    def varied(self, augment: Augment, rng: np.random.Generator) -> Sample:
        """A random patch, each of its planes changed by the same random change.

        One in two has its middle on a voxel of a class that is drawn evenly among those painted, so that a small target
        is met as often as a large one; the others lie anywhere, with a painted plane in sight.
        """
        labels = self.painted
        z, y, x = self._on_target(rng) if self._found.size and rng.random() < ON_TARGET else self._anywhere(rng)
        first = _within(z - self.patch.depth // 2, self.patch.depth, len(labels))
        planes = slice(first, first + self.patch.depth)
        change = augment.draw(rng, labels.shape[-1])
        top, left = (
            _within(round(place) - self.patch.side // 2, self.patch.side, labels.shape[-1])
            for place in change.point(y, x)
        )
        return self._cut(
            change.image(self.image[:, planes].astype(np.float32)), change.labels(labels[planes]), (0, top, left)
        )

    def tiles(self) -> list[Sample]:
        """Patches side by side, unvaried, that have painted voxels."""
        cut = (self._cut(self.image, self.painted, first) for first in self.patch.tiles(self.painted.shape))
        return [tile for tile in cut if tile.labels is not None and (tile.labels != IGNORED).any()]

    @property
    def painted(self) -> NDArray[np.uint8]:
        """Its labels."""
        assert self.labels is not None
        return self.labels

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """(Z, classes of the foreground): how many voxels."""
        planes = self.painted.reshape(len(self.painted), -1)
        return np.stack([np.bincount(plane, minlength=IGNORED + 1)[1:IGNORED] for plane in planes])

    @cached_property
    def _found(self) -> NDArray[np.int64]:
        """Which classes of the foreground there are."""
        return 1 + np.flatnonzero(self._counts.any(axis=0))

    @cached_property
    def _known(self) -> NDArray[np.int64]:
        return np.flatnonzero((self.painted != IGNORED).any(axis=(1, 2)))

    def _on_target(self, rng: np.random.Generator) -> Place:
        label = rng.choice(self._found)
        counts = self._counts[:, label - 1]
        plane = rng.choice(len(counts), p=counts / counts.sum())
        y, x = np.nonzero(self.painted[plane] == label)
        chosen = rng.integers(len(y))
        return int(plane), int(y[chosen]), int(x[chosen])

    def _anywhere(self, rng: np.random.Generator) -> Place:
        plane = rng.choice(self._known) - rng.integers(self.patch.depth) + self.patch.depth // 2
        y, x = rng.integers(self.painted.shape[-1], size=2)
        return int(plane), int(y), int(x)

    def _cut(self, image: NDArray[np.floating], labels: NDArray[np.uint8], first: Place) -> Sample:
        return Sample(
            case=self.case,
            image=_cut(image, first, self.patch.shape, 0),
            labels=_cut(labels, first, self.patch.shape, IGNORED),
            frame=self.frame,
            task=self.task,
        )


def volume_of(case: Case, recipe: Recipe, size: int, classes: int, patch: Patch) -> Volume:
    """A case with a mask: its planes as the recipe shows them to a 2-D network, one behind the other."""
    image, count = image_of(case), case.geometry.plane_shape[0]
    frame, squares = recipe.frame(image, size), recipe.squares(image, range(count), size)
    masks, labels = read_mask(case, classes), np.full((count, size, size), IGNORED, np.uint8)
    for plane in case.planes:
        labels[plane] = frame.labels(masks[plane])
    prepared = np.stack([square.astype(np.float16) for square in squares], axis=1)
    return Volume(case=case.name, image=prepared, frame=frame, labels=labels, patch=patch)


def _within(first: int, length: int, whole: int) -> int:
    """The nearest start to `first` from which a stretch of `length` lies within the whole; 0 where it is longer."""
    return max(0, min(first, whole - length))


def _cut(array: NDArray[T], first: Place, shape: Place, fill: int) -> NDArray[T]:
    """(..., Z, Y, X) to (..., *shape), with `fill` where it overhangs."""
    piece = np.full((*array.shape[:-3], *shape), fill, array.dtype)
    z, y, x = (slice(start, start + length) for start, length in zip(first, shape, strict=True))
    found = array[..., z, y, x]
    depth, height, width = found.shape[-3:]
    piece[..., :depth, :height, :width] = found
    return piece
