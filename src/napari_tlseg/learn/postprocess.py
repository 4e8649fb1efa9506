"""What is done to a predicted mask before anyone sees it: morphology, small components, what lies outside the organ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, prod

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_tlseg.data.case import Labels
from napari_tlseg.errors import InputError

Mask = NDArray[np.bool_]
LUNGS = {"lung", "lungs", "left-lung", "right-lung", "lung-left", "lung-right"}


@dataclass(frozen=True, kw_only=True)
class Postprocess:
    """Rules that clean a label image, in this order; the default only keeps foreground inside the region of interest.

    Lengths are mm where the spacing is known, else pixels; a volume is treated in 3-D. Of several classes each is
    cleaned by itself: a removed pixel becomes background, a filled or closed one must have been background.

    >>> clean = Postprocess(opening=1, fill_holes=True, smallest=50)
    """

    keep_outside: bool = False
    """Keep also foreground outside the region of interest, where the case has one, and opacities outside the lungs."""
    opacities: tuple[str, ...] = ("infection", "opacity", "opacities", "ground-glass", "consolidation")
    """Classes that belong in the lungs: of a model that also has a class `lung`, their components that do not touch
    it (its holes filled) are removed (Sagie et al.). Where no lung was found nothing is."""
    opening: float = 0
    """Radius of the morphological opening (removes what is thinner), mm or px."""
    closing: float = 0
    """Radius of the morphological closing (fills what is narrower), mm or px."""
    fill_holes: bool = False
    """Fill background that a class encloses on all sides."""
    smallest: float = 0
    """Smallest component kept: mm³ of a volume, mm² of an image, px where the spacing is unknown."""
    largest_only: bool = False
    """Keep only the largest component of each class: for one-piece targets such as the optic disc, not for lungs."""

    def __post_init__(self) -> None:
        for name in ("opening", "closing", "smallest"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise InputError(f"post-processing: {name} must be 0 or more, not {value}")

    def apply(
        self,
        labels: Labels,
        *,
        spacing: Sequence[float],
        classes: tuple[str, ...],
        roi: NDArray[np.generic] | None = None,
    ) -> Labels:
        """A cleaned copy of labels (N, Y, X).

        spacing: mm (or 1 px) per pixel, (N, Y, X), or (Y, X) of a single plane. classes: names with the background
        first. roi: (N, Y, X), nonzero inside.
        """
        labels = labels.copy()
        if self.keep_outside:
            roi = None
        if roi is not None:
            labels[roi == 0] = 0
        if self.opening or self.closing or self.fill_holes or self.smallest or self.largest_only:
            labels = self._clean(labels, spacing, roi)
        if not self.keep_outside:
            self._drop_outside_lungs(labels, classes)
        return labels

    def _clean(self, labels: Labels, spacing: Sequence[float], roi: NDArray[np.generic] | None) -> Labels:
        """Each class within its bounding box, from the labels as they came: the order of the classes hardly matters."""
        sizes = (1.0, *spacing)[-3:]
        result = labels.copy()
        for label, found in enumerate(ndimage.find_objects(labels), start=1):
            if found is None:
                continue
            box = tuple(slice(max(axis.start - 1, 0), axis.stop + 1) for axis in found)  # with some background
            mask = labels[box] == label
            free = labels[box] == 0
            if roi is not None:
                free &= roi[box] != 0
            shape = self._components(self._morphology(mask, free, sizes), prod(sizes))
            inner = result[box]
            inner[mask] = 0
            inner[shape] = label
        return result

    def _morphology(self, mask: Mask, free: Mask, sizes: Sequence[float]) -> Mask:
        if self.opening:
            mask = _opened(mask, self.opening, sizes)
        if self.closing:
            mask = mask | free & _closed(mask, self.closing, sizes)
        return mask | free & _filled(mask) if self.fill_holes else mask

    def _components(self, mask: Mask, pixel: float) -> Mask:
        if not (self.smallest or self.largest_only):
            return mask
        parts, sizes = _label(mask)
        keep = sizes * pixel >= self.smallest
        if self.largest_only and len(sizes) > 1:
            keep &= np.arange(len(sizes)) == 1 + np.argmax(sizes[1:])
        keep[0] = False
        return keep[parts]

    def _drop_outside_lungs(self, labels: Labels, classes: tuple[str, ...]) -> None:
        """In place. An opacity stays if the component of lung and opacities together that it is part of has lung."""
        names = [_plain(name) for name in classes]
        opacity = np.array([name in map(_plain, self.opacities) for name in names])
        organ = np.array([name in LUNGS for name in names])
        found = ndimage.find_objects((organ | opacity).astype(np.uint8)[labels])
        if not found:
            return
        inner = labels[found[0]]
        lung = _filled(organ[inner])
        if not lung.any():
            return
        suspect = opacity[inner] & ~lung
        parts, sizes = _label(lung | suspect)
        stays = np.zeros(len(sizes), bool)
        stays[parts[lung]] = True
        inner[suspect & ~stays[parts]] = 0


def _plain(name: str) -> str:
    return name.lower().replace(" ", "-").replace("_", "-")


def _label(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Components, joined also across corners, and the pixels in each; component 0 is the background, counted 0."""
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return parts, np.bincount(parts[mask], minlength=count + 1)


def _filled(mask: Mask) -> Mask:
    """With its holes, background that no path of face-to-face steps joins to the outside of the box."""
    axes = 2 if len(mask) == 1 else 3  # of a single plane everything is at the outside
    flat = np.pad(mask.reshape(mask.shape[-axes:]), 1)
    outside, _ = ndimage.label(~flat)
    filled: Mask = outside != outside[(0,) * axes]
    return filled[(slice(1, -1),) * axes].reshape(mask.shape)


def _opened(mask: Mask, radius: float, sizes: Sequence[float]) -> Mask:
    """Beyond the array nothing is known: a body cut by the edge of the image is not shaved there."""
    return _morph(cv2.dilate, np.bitwise_or, _morph(cv2.erode, np.bitwise_and, mask, radius, sizes), radius, sizes)


def _closed(mask: Mask, radius: float, sizes: Sequence[float]) -> Mask:
    """Beyond the array lies background: a gap between a body and the edge of the image is not filled."""
    margin = [_reach(radius, size) for size in sizes]
    if len(mask) == 1:
        margin[0] = 0
    wide = np.pad(mask, [(side, side) for side in margin])
    wide = _morph(cv2.erode, np.bitwise_and, _morph(cv2.dilate, np.bitwise_or, wide, radius, sizes), radius, sizes)
    return wide[tuple(slice(side, side + size) for side, size in zip(margin, mask.shape, strict=True))]


def _morph(
    operation: Callable[..., NDArray[np.uint8]], join: np.ufunc, mask: Mask, radius: float, sizes: Sequence[float]
) -> Mask:
    """Erosion or dilation of (N, Y, X) by the ball |d| ≤ radius, `sizes` per pixel, disc by disc; what lies beyond the
    array takes no part.
    """
    planes = np.ascontiguousarray(mask).view(np.uint8)
    total = planes.copy()
    reach = min(_reach(radius, sizes[0]), len(planes) - 1)
    for step in range(reach + 1):
        disc = _disc(max(radius**2 - (step * sizes[0]) ** 2, 0) ** 0.5, sizes[1:])
        moved = np.stack([operation(plane, disc) for plane in planes])
        join(total[step:], moved[: len(moved) - step], out=total[step:])
        join(total[: len(total) - step], moved[step:], out=total[: len(total) - step])
    return total.view(np.bool_)


def _disc(radius: float, sizes: Sequence[float]) -> NDArray[np.uint8]:
    y, x = (size * np.arange(-reach, reach + 1) for size in sizes for reach in [_reach(radius, size)])
    return (y[:, None] ** 2 + x**2 <= radius**2 + 1e-9 * min(sizes) ** 2).astype(np.uint8)


def _reach(radius: float, size: float) -> int:
    """Pixels within the radius; 0.3 / 0.1 are 3."""
    return int(radius / size + 1e-9)
