"""Seeded random fields that several phantoms share."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Field = NDArray[np.floating]
"""Numbers over the pixels, or what broadcasts to them; float32 where there are many."""
Random = np.random.Generator


def smooth_noise(rng: Random, shape: tuple[int, int], scale: float) -> Field:
    """(Y, X), mean 0, deviation about 1, blurred by a Gaussian of `scale` pixels."""
    step = max(scale / 2, 1.0)
    grid = [int(np.ceil(side / step)) + 1 for side in shape]
    coarse = cv2.GaussianBlur(rng.standard_normal(grid, dtype=np.float32), (0, 0), scale / step)
    coarse /= coarse.std() + 1e-6
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def smooth_noise_3d(rng: Random, shape: tuple[int, ...], scale: tuple[float, ...]) -> Field:
    """(Z, Y, X), mean 0, deviation 1, blurred by `scale` voxels along each axis."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), scale, truncate=2.5)
    return np.asarray(noise / (noise.std() + 1e-6), np.float32)


def smoothstep(value: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, a smooth ramp between (swap the two for a falling one)."""
    ramp = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)
