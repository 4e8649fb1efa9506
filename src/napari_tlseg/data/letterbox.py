"""From the native grid to the square that a network sees, and exactly back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels


@dataclass(frozen=True)
class Letterbox:
    """A plane of `shape` shrunk or grown to fit a `size` × `size` square, centred, never stretched, the rest zero.

    Pixel centres lie at whole numbers on both grids: y_square = (y + ½)·scale − ½ + top.
    """

    shape: tuple[int, int]
    """(Y, X) of the native plane, pixels."""
    size: int

    @property
    def inner(self) -> tuple[int, int]:
        """(Y, X) of the picture within the square."""
        (y, x), longest = self.shape, max(self.shape)
        return max(1, round(y * self.size / longest)), max(1, round(x * self.size / longest))

    @property
    def corner(self) -> tuple[int, int]:
        """(top, left) of the picture within the square."""
        return ((self.size - self.inner[0]) // 2, (self.size - self.inner[1]) // 2)

    def image(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Y, X, C) to (size, size, C); averaged where it shrinks."""
        square = np.zeros((self.size, self.size, plane.shape[2]), np.float32)
        square[self.window] = _resize(plane, self.inner).reshape(*self.inner, -1)
        return square

    def labels(self, labels: Labels) -> Labels:
        """(Y, X) to (size, size): each pixel takes the class that fills most of it."""
        square = np.zeros((self.size, self.size), np.uint8)
        shares = [_resize((labels == label).astype(np.float32), self.inner) for label in range(int(labels.max()) + 1)]
        square[self.window] = np.argmax(shares, axis=0)
        return square

    def native(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K, size, size) to (K, Y, X), interpolated linearly."""
        return np.stack(
            [cv2.resize(channel[self.window], self.shape[::-1], interpolation=cv2.INTER_LINEAR) for channel in square]
        )

    def point(self, y: float, x: float) -> tuple[float, float]:
        """Native pixel indices to those of the square."""
        (h, w), (top, left) = self.inner, self.corner
        return ((y + 0.5) * h / self.shape[0] - 0.5 + top, (x + 0.5) * w / self.shape[1] - 0.5 + left)

    def native_point(self, y: float, x: float) -> tuple[float, float]:
        """The inverse of `point`."""
        (h, w), (top, left) = self.inner, self.corner
        return ((y - top + 0.5) * self.shape[0] / h - 0.5, (x - left + 0.5) * self.shape[1] / w - 0.5)

    @property
    def window(self) -> tuple[slice, slice]:
        """(Y, X) where the picture lies in the square."""
        (h, w), (top, left) = self.inner, self.corner
        return slice(top, top + h), slice(left, left + w)


def _resize(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    shrinks = max(shape) < max(plane.shape[:2])
    resized: NDArray[Any] = cv2.resize(
        plane, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized
