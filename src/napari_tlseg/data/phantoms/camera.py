"""A fundus camera: what becomes of a retina on its way into a photograph."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.phantoms.frame import Frame
from napari_tlseg.data.phantoms.noise import Field, Random, smooth_noise, smoothstep

HAZES = np.array([(0.50, 0.56, 0.50), (0.62, 0.50, 0.48), (0.35, 0.45, 0.44)])
"""Colours that stray light takes at the rim."""


def photograph(rng: Random, frame: Frame, scene: Field) -> NDArray[np.uint8]:
    """Uneven flash, haze, defocus, the field stop, exposure with a soft shoulder, and the sensor's noise."""
    scene = _light(rng, frame, scene)
    blur = rng.uniform(0.3, 1.5) * frame.size / 512
    scene = cv2.GaussianBlur(scene, (0, 0), blur)
    cast = rng.normal(1, (0.05, 0.05, 0.08))
    exposed = 1 - np.exp(-1.55 * rng.uniform(0.35, 1.6) * cast * np.clip(scene, 0, None))
    grain = smooth_noise(rng, (frame.size, frame.size), 0.7)[..., None] + 0.5 * rng.standard_normal(
        scene.shape, dtype=np.float32
    )
    exposed = exposed + rng.uniform(0.004, 0.016) * grain * np.sqrt(exposed + 0.02)
    dark = np.clip(rng.uniform(0, 0.015) + 0.004 * grain, 0, 1)
    return np.rint(255 * np.clip(dark + _stop(rng, frame)[..., None] * (exposed - dark), 0, 1)).astype(np.uint8)


def _light(rng: Random, frame: Frame, scene: Field) -> Field:
    """The flash's hot spot, vignetting, a shadow of the iris and a pale veil from the rim."""
    direction = rng.uniform(0, 2 * np.pi)
    y, x = ((pixel - place) / frame.field[2] for pixel, place in zip(frame.pixels, frame.field[:2], strict=True))
    tilt = x * np.cos(direction) + y * np.sin(direction)
    vignette = 1 - rng.uniform(0.1, 0.6) * frame.eccentricity**2
    shadow = 1 - rng.uniform(0, 0.75) * smoothstep(tilt + 0.12 * frame.noise(rng, 2), rng.uniform(0.3, 0.7), 1.2)
    lit = scene * (vignette * shadow * (1 + rng.uniform(-0.3, 0.3) * tilt))[..., None]
    haze = rng.dirichlet(np.full(len(HAZES), 0.5)) @ HAZES
    veil = rng.uniform(0, 0.5) * smoothstep(frame.eccentricity, 0.6, 1.05) + rng.uniform(0, 0.1)
    if rng.random() < 0.25:
        veil = veil + rng.uniform(0.2, 0.6) * smoothstep(frame.noise(rng, 2.5) - 1.2 * tilt, 0.9, 2.6)
    return np.asarray(lit + np.clip(veil, 0, 0.8)[..., None] * (haze * rng.uniform(0.4, 1.1) - lit), np.float32)


def _stop(rng: Random, frame: Frame) -> Field:
    """(Y, X) 1 in the field of view: a circle, often flat above and below, with the camera's notch."""
    y, x = frame.pixels
    centre_y, centre_x, radius = frame.field
    reach = radius * (rng.uniform(0.84, 0.98) if rng.random() < 0.5 else 1.1)
    inside = np.minimum(radius - frame.eccentricity * radius, reach - np.abs(y - centre_y))
    if rng.random() < 0.4:
        angle, tooth = np.deg2rad(rng.choice((-45, 30, 40))), 0.03 * radius
        at = centre_y + radius * np.sin(angle), centre_x + radius * np.cos(angle)
        inside = np.maximum(inside, tooth - np.hypot(y - at[0], x - at[1]))
    soft = frame.size / 512 * rng.uniform(0.8, 2.0)
    return smoothstep(inside, -soft, soft)
