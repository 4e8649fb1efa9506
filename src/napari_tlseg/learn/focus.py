"""Look where the target is: a crop about its centre, at a resolution that the whole image cannot afford."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Self

import numpy as np

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.augment import Augment
from napari_tlseg.data.case import Case
from napari_tlseg.data.images import image_of
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import Recipe
from napari_tlseg.learn.locator import Locator, usual_plane
from napari_tlseg.learn.samples import Sample, crop_samples

MARGIN = 1.6
"""Side of what a training sample holds, in sides of the crop: so much may be turned and moved into sight."""
SHIFT = (0.05, 0.25)
"""Least and most that training crops are moved by, to either side; shares of their side."""
TURN = 60.0
"""Degrees to either side that training crops are turned by, and mirrored both ways, where the recipe mirrors images: a
compact target has hardly an upright, and its few masks go further."""
ROOM = 1.3
"""The crop's side is at least so many times the extent of the largest training mask."""


@dataclass(frozen=True, kw_only=True)
class Focus:
    """What crops are cut; learned from the training masks.

    Lengths in a plane are shares of its longer side, so that photographs of several sizes can be mixed.
    """

    side: float
    smallest: float
    largest: float
    """Extent of the training masks: the longer side of the box around a mask, all planes of a volume together."""
    height: float = 0.5
    """Of a volume: where along its planes, 0 to 1, the localizer looks."""
    depth: float = math.inf
    """Of a volume: how far from a click's plane there is target, half as much again; in the unit of the spacing."""
    shift: float = SHIFT[0]
    """How far training crops are moved at random, to either side; a share of the crop's."""

    @classmethod
    def learn(cls, cases: Sequence[Case], classes: int, multiple: float, reach: float | None) -> Self | None:
        """From the masks of the training cases; None where all are empty.

        The side is `multiple` times the median extent. `reach`: how far off the localizer may be.
        """
        found = [target for case in cases if (target := _target(case, classes)) is not None]
        if not found:
            return None
        extents = [target.extent for target in found]
        side = min(1.0, max(multiple * median(extents), ROOM * max(extents)))
        volumes = [target for target in found if target.depth is not None]
        return cls(
            side=side,
            smallest=min(extents),
            largest=max(extents),
            height=median([target.height for target in volumes] or [0.5]),
            depth=1.5 * max([target.depth for target in volumes if target.depth is not None] or [math.inf]),
            shift=min(max((reach or 0) / side, SHIFT[0]), SHIFT[1]),
        )

    def to_dict(self) -> dict[str, float]:
        """For the model's file; ∞ is left out."""
        return {name: value for name, value in asdict(self).items() if math.isfinite(value)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, float]) -> Self:
        """What `to_dict` gave; TypeError where something is missing."""
        return cls(**facts)

    def pixels(self, shape: tuple[int, int]) -> float:
        """The side of a crop of a plane (Y, X), native pixels."""
        return self.side * max(shape)

    def augment(self, base: Augment) -> Augment:
        """The random changes of a training crop."""
        turned = replace(base, rotate=TURN, flip_y=True) if base.flip_x else base
        return replace(turned, shift=self.shift)

    def training(self, case: Case, recipe: Recipe, size: int, classes: int) -> list[Sample]:
        """The painted planes about the click, or else the mask's centre, with a margin around what is seen."""
        target = _target(case, classes)
        middle = tuple((side - 1) / 2 for side in case.geometry.plane_shape[1:])
        centre = _clicked(case) or (target.centre if target else (middle[0], middle[1]))
        return crop_samples(case, recipe, self._frame(case, centre, round(MARGIN * size), MARGIN), classes, kept=size)

    def validation(self, case: Case, recipe: Recipe, size: int, classes: int, locator: Locator) -> list[Sample]:
        """The painted planes about the click, or else about where the localizer sees the target."""
        centre = _clicked(case)
        if centre is None:
            place = locator.find(image_of(case), self.plane(case))
            centre = (place.y, place.x)
        return crop_samples(case, recipe, self._frame(case, centre, size), classes)

    def plane(self, case: Case) -> int:
        """Where the localizer looks."""
        return usual_plane(self.height, case.geometry.plane_shape[0])

    def _frame(self, case: Case, centre: tuple[float, float], size: int, times: float = 1.0) -> Letterbox:
        shape = case.geometry.plane_shape[1:]
        return Letterbox.around(shape, size, centre, times * self.pixels(shape))


@dataclass(frozen=True)
class _Target:
    """Where the foreground of a mask lies, all planes of a volume together."""

    centre: tuple[float, float]
    """(y, x), native pixels: the middle of the box around it."""
    extent: float
    height: float
    depth: float | None
    """Half of what it measures across the planes, in the unit of the spacing; None for a single plane."""


def _target(case: Case, classes: int) -> _Target | None:
    mask = read_mask(case, classes)
    if not mask.any():
        return None
    rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    volume = len(mask) > 1
    return _Target(
        centre=((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2),
        extent=float(extent / max(mask.shape[1:])),
        height=float((planes[0] + planes[-1] + 1) / 2 / len(mask)),
        depth=float(np.ptp(planes) + 1) / 2 * case.geometry.plane_spacing[0] if volume else None,
    )


def _clicked(case: Case) -> tuple[float, float] | None:
    return case.geometry.point_to_planes(case.click)[1:] if case.click else None
