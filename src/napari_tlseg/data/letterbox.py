"""From the native grid to the square that a network sees, and exactly back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels

PIECE = 0.1
"""Of the largest bright piece of a plane: what has less area is not of the body."""


class Box(NamedTuple):
    """A rectangle of whole pixels of a plane, which it may overhang on any side."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of_bright(cls, planes: NDArray[Any], black: NDArray[np.float64]) -> Self | None:
        """The least box of planes (N, Y, X, C) with all that is brighter than `black`, (C,) or (1,), in any of them.

        In each plane pieces much smaller than the largest, such as noise or the table that a patient lies on, are not
        of it. None where nothing is bright.
        """
        boxes = []
        for plane in planes:
            bright = (plane > black).any(axis=-1).astype(np.uint8)
            pieces = cv2.connectedComponentsWithStats(bright)[2][1:]
            areas = pieces[:, cv2.CC_STAT_AREA]
            boxes += pieces[areas >= PIECE * areas.max(initial=0), : cv2.CC_STAT_AREA].tolist()
        if not boxes:
            return None
        left, top, width, height = np.array(boxes).T
        first, last = (int(top.min()), int(left.min())), (int((top + height).max()), int((left + width).max()))
        return cls(*first, last[0] - first[0], last[1] - first[1])


@dataclass(frozen=True)
class Letterbox:
    """A box of a plane, shrunk or grown to fit a `size` × `size` square, centred, never stretched, the rest zero.

    By default the box is the whole plane; `around` makes a crop. What of a box lies outside the plane is zero on the
    way there and dropped on the way back. Pixel centres lie at whole numbers on both grids:
    y_square = (y − box.top + ½)·scale − ½ + corner.
    """

    shape: tuple[int, int]
    """(Y, X) of the native plane, pixels."""
    size: int
    crop: Box | None = None
    """None for the whole plane."""

    @classmethod
    def around(cls, shape: tuple[int, int], size: int, centre: tuple[float, float], side: float) -> Self:
        """A square crop of `side` native pixels about a centre (y, x), both to the nearest that falls on whole pixels.

        So a crop that is not scaled is a copy, and its middle is at most half a pixel from the centre.
        """
        length = max(1, round(side))
        top, left = (round(place + 0.5 - length / 2) for place in centre)
        return cls(shape, size, Box(top, left, length, length))

    @property
    def box(self) -> Box:
        """What of the plane fills the square; a crop may reach beyond the plane."""
        return self.crop or Box(0, 0, *self.shape)

    @property
    def inner(self) -> tuple[int, int]:
        """(Y, X) of the picture within the square."""
        y, x = self.box.height, self.box.width
        longest = max(y, x)
        return max(1, round(y * self.size / longest)), max(1, round(x * self.size / longest))

    @property
    def corner(self) -> tuple[int, int]:
        """(top, left) of the picture within the square."""
        return ((self.size - self.inner[0]) // 2, (self.size - self.inner[1]) // 2)

    @property
    def window(self) -> tuple[slice, slice]:
        """(Y, X) where the picture lies in the square."""
        (h, w), (top, left) = self.inner, self.corner
        return slice(top, top + h), slice(left, left + w)

    def image(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Y, X, C) to (size, size, C); averaged where it shrinks."""
        square = np.zeros((self.size, self.size, plane.shape[2]), np.float32)
        square[self.window] = _resize(self._cut(plane), self.inner).reshape(*self.inner, -1)
        return square

    def labels(self, labels: Labels) -> Labels:
        """(Y, X) to (size, size): each pixel takes the class that fills most of it."""
        square, cut = np.zeros((self.size, self.size), np.uint8), self._cut(labels)
        shares = [_resize((cut == label).astype(np.float32), self.inner) for label in range(int(cut.max()) + 1)]
        square[self.window] = np.argmax(shares, axis=0)
        return square

    def native(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K, size, size) to (K, Y, X), interpolated linearly; zero outside the box."""
        height, width = self.box.height, self.box.width
        grown = [cv2.resize(layer[self.window], (width, height), interpolation=cv2.INTER_LINEAR) for layer in square]
        if self.crop is None:
            return np.stack(grown)
        plane = np.zeros((len(square), *self.shape), np.float32)
        there, here = self._overlap
        plane[:, *there] = np.stack(grown)[:, *here]
        return plane

    def point(self, y: float, x: float) -> tuple[float, float]:
        """Native pixel indices to those of the square."""
        (h, w), (top, left), box = self.inner, self.corner, self.box
        return (
            (y - box.top + 0.5) * h / box.height - 0.5 + top,
            (x - box.left + 0.5) * w / box.width - 0.5 + left,
        )

    def native_point(self, y: float, x: float) -> tuple[float, float]:
        """The inverse of `point`."""
        (h, w), (top, left), box = self.inner, self.corner, self.box
        return (
            (y - top + 0.5) * box.height / h - 0.5 + box.top,
            (x - left + 0.5) * box.width / w - 0.5 + box.left,
        )

    @property
    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where plane and box overlap, in pixels of the plane and of the box; empty where they do not."""
        there, here = [], []
        for start, extent, length in zip(self.box[:2], self.box[2:], self.shape, strict=True):
            first = max(0, start)
            last = max(first, min(length, start + extent))
            there.append(slice(first, last))
            here.append(slice(first - start, last - start))
        return (there[0], there[1]), (here[0], here[1])

    def _cut(self, plane: NDArray[Any]) -> NDArray[Any]:
        """The box of a plane (Y, X, ...), zero where it overhangs."""
        if self.crop is None:
            return plane
        cut = np.zeros((self.box.height, self.box.width, *plane.shape[2:]), plane.dtype)
        there, here = self._overlap
        cut[here] = plane[there]
        return cut


def _resize(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    shrinks = max(shape) < max(plane.shape[:2])
    resized: NDArray[Any] = cv2.resize(
        plane, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized
