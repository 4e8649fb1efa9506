"""Random changes that move an image, its mask and its click together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels

T = TypeVar("T", bound=np.generic)
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Of red, green and blue (ITU-R BT.601)."""
DARKEST = np.float32(1e-3)
"""What a stretched channel begins at, as black stays for what is not of the image."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How far a training image may be changed; all zero leaves it as it is."""

    rotate: float = 15.0
    """Degrees to either side."""
    zoom: float = 0.2
    """Factor up to 1 ± zoom."""
    shift: float = 0.1
    """Share of the side, to either direction."""
    flip_x: bool = False
    flip_y: bool = False
    gamma: float = 0.3
    """Exponent up to e^± gamma."""
    contrast: float = 0.2
    brightness: float = 0.1
    noise: float = 0.02
    """Standard deviation, on the scale [0, 1]."""
    crop: float = 1.0
    """Smallest share of the area that is cut out, anywhere, and enlarged to the whole."""
    grey: float = 0.0
    """How often colours become grey."""
    stretch: float = 0.0
    """How often each channel is stretched over all of [0, 1] (auto-contrast)."""

    def draw(self, rng: np.random.Generator, size: int, kept: int | None = None) -> Change:
        """One random change of a square of `size` pixels, of which the middle `kept` are to be seen (all of them)."""
        angle = radians(rng.uniform(-self.rotate, self.rotate))
        zoom = 1 + rng.uniform(-self.zoom, self.zoom)
        mirror_x = -1.0 if self.flip_x and rng.random() < 0.5 else 1.0
        mirror_y = -1.0 if self.flip_y and rng.random() < 0.5 else 1.0
        turn = zoom * np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]) @ np.diag([mirror_x, mirror_y])
        centre = np.full(2, (size - 1) / 2)
        move = centre + rng.uniform(-self.shift, self.shift, 2) * (kept or size) - turn @ centre
        change = Change(
            matrix=np.column_stack([turn, move]),
            gamma=float(np.exp(rng.uniform(-self.gamma, self.gamma))),
            gain=float(1 + rng.uniform(-self.contrast, self.contrast)),
            bias=float(rng.uniform(-self.brightness, self.brightness)),
            noise=float(self.noise * rng.random()),
            seed=int(rng.integers(2**31)),
        )
        return self._harsher(change, rng, size, kept or size)

    def _harsher(self, change: Change, rng: np.random.Generator, size: int, kept: int) -> Change:
        """With the crop, and what comes only sometimes; what never comes takes no chance from the rest."""
        matrix = change.matrix
        if self.crop < 1:
            larger = rng.uniform(self.crop, 1) ** -0.5
            matrix = larger * matrix
            matrix[:, 2] += (1 - larger) * (size - 1) / 2 + rng.uniform(-1, 1, 2) * (larger - 1) * kept / 2
        grey, stretch = (share > 0 and bool(rng.random() < share) for share in (self.grey, self.stretch))
        return replace(change, matrix=matrix, grey=grey, stretch=stretch)


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """One drawn change: an affine map of the square, then intensities."""

    matrix: NDArray[np.float64]
    """(2, 3), takes (x, y, 1) of the old pixel to (x, y) of the new."""
    gamma: float = 1.0
    gain: float = 1.0
    bias: float = 0.0
    noise: float = 0.0
    seed: int = 0
    grey: bool = False
    stretch: bool = False

    def image(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C, ..., Y, X) in [0, 1] to the same; what comes in from outside is zero, and black stays black."""
        moved = self._warp(image, cv2.INTER_LINEAR)
        if self.grey and len(moved) == 3:
            moved = np.broadcast_to(np.tensordot(LUMINANCE, moved, 1), moved.shape)
        if self.stretch:
            moved = np.stack([_stretched(channel) for channel in moved])
        seen = (moved > 0).astype(np.float32)
        changed = np.float32(self.gain) * moved.clip(0, 1) ** np.float32(self.gamma) + np.float32(self.bias) * seen
        if self.noise:
            grain = np.random.default_rng(self.seed).standard_normal(moved.shape, np.float32)
            changed += np.float32(self.noise) * grain * seen
        return changed.clip(0, 1)

    def labels(self, labels: Labels) -> Labels:
        """(..., Y, X) classes; what comes in from outside is background."""
        return self._warp(labels, cv2.INTER_NEAREST)

    def point(self, y: float, x: float) -> tuple[float, float]:
        """Where a pixel goes."""
        new_x, new_y = self.matrix @ (x, y, 1.0)
        return float(new_y), float(new_x)

    def _warp(self, planes: NDArray[T], interpolation: int) -> NDArray[T]:
        y, x = planes.shape[-2:]
        moved = [cv2.warpAffine(plane, self.matrix, (x, y), flags=interpolation) for plane in planes.reshape(-1, y, x)]
        return np.stack(moved).reshape(planes.shape)


def _stretched(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is not black, over all of (0, 1]."""
    seen = channel > 0
    low, high = (channel[seen].min(), channel[seen].max()) if seen.any() else (0, 0)
    if low == high:
        return channel
    return np.where(seen, DARKEST + (1 - DARKEST) * (channel - low) / (high - low), 0).astype(np.float32)
