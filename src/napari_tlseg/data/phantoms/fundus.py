"""Phantom fundus photographs: a retina painted layer by layer, then seen through a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels
from napari_tlseg.data.phantoms.camera import photograph
from napari_tlseg.data.phantoms.frame import Centre, Eye, Frame
from napari_tlseg.data.phantoms.noise import Field, Random, smooth_noise, smoothstep
from napari_tlseg.data.phantoms.vessels import draw_vessels, grow_vessels

PIGMENTS = np.array(
    [(0.80, 0.44, 0.22), (0.60, 0.42, 0.22), (0.80, 0.20, 0.12), (0.70, 0.50, 0.30), (0.62, 0.30, 0.13)]
)
VEIN = np.array((0.50, 1.05, 0.75), np.float32)
ARTERY = np.array((0.20, 0.75, 0.60), np.float32)
"""Absorption of red, green and blue at optical depth 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FundusPhantom:
    """A fundus photograph of which everything is known."""

    image: NDArray[np.uint8]
    """(Y, X, 3) RGB."""
    mask: Labels
    """(Y, X) 0 background, 1 optic disc, and 2 cup where it was asked for."""
    click: tuple[float, float]
    """(y, x) centre of mass of the disc (cup included), pixel indices."""
    eye: Eye


def fundus(
    seed: int | Sequence[int],
    size: int = 512,
    *,
    eye: Eye | None = None,
    centre: Centre | None = None,
    cup: bool = False,
) -> FundusPhantom:
    """A photograph of one eye, `size` pixels wide and high; what is not given is drawn from the seed.

    A macula-centred photograph (45°) shows the disc at the side, a tenth of the width; a disc-centred one (30°) larger.

    >>> fundus(3).image.shape
    (512, 512, 3)
    """
    rng = np.random.default_rng(seed)
    frame = Frame.draw(rng, size, eye, centre)
    disc = _Disc.draw(rng, frame)
    vessels = grow_vessels(rng, np.array(frame.fovea))
    clarity = rng.uniform(0.45, 1.0)

    scene = _background(rng, frame)
    scene = _paint_fovea(rng, frame, scene)
    scene = _paint_disc(rng, disc, scene, clarity)
    scene = _paint_lesions(rng, frame, scene) if rng.random() < 0.4 else scene
    for vein in (False, True):
        depth = draw_vessels([v for v in vessels if v.vein == vein], size, frame.origin, frame.diameter, frame.side)
        scene = _paint_vessels(scene, depth, vein, clarity)
    image = photograph(rng, frame, scene)
    mask = disc.mask(cup)
    y, x = (float(where.mean()) for where in np.nonzero(mask))
    return FundusPhantom(image=image, mask=mask, click=(y, x), eye="left" if frame.side > 0 else "right")


def _background(rng: Random, frame: Frame) -> Field:
    """Pigment, mottled at every scale, with choroidal vessels shining through and nerve fibres around the disc."""
    pigment = rng.dirichlet(np.full(len(PIGMENTS), 0.35)) @ PIGMENTS
    mottle = 0.10 * frame.noise(rng, 1.2) + 0.035 * frame.noise(rng, 0.12) + 0.02 * frame.noise(rng, 0.04)
    ridges = 1 - np.abs(frame.noise(rng, 0.16)) / 0.5
    choroid = rng.beta(0.7, 1.4) * 0.35 * np.clip(ridges, 0, 1) * smoothstep(frame.noise(rng, 1.5), -0.8, 0.8)
    choroid *= smoothstep(frame.away(*frame.fovea), 0.5, 1.8)
    light = 1 + mottle + rng.uniform(0.1, 0.5) * np.exp(-frame.away(0.2, 0) / 1.1) + _fibres(rng, frame)
    scene = light[..., None] * pigment + choroid[..., None] * (pigment * (0.9, 0.35, 0.2))
    return np.asarray(np.clip(scene, 0.02, None), np.float32)


def _fibres(rng: Random, frame: Frame) -> Field:
    """Nerve fibres: fine bright streaks that run out of the disc above and below."""
    across, down = frame.anatomy
    angle = np.arctan2(down, across) * np.ones_like(across)
    wheel = smooth_noise(rng, (1, 512), 1.5)[0]
    streaks = wheel[((angle / (2 * np.pi) + 0.5) * 511).astype(np.int32)]
    distance = frame.away(0, 0)
    reach = smoothstep(distance, 0.4, 0.8) * np.exp(-distance / 1.2) * np.sin(angle) ** 2
    return np.asarray(rng.uniform(0, 0.07) * streaks * reach, np.float32)


def _paint_fovea(rng: Random, frame: Frame, scene: Field) -> Field:
    distance = frame.away(*frame.fovea)
    shade = rng.uniform(0.25, 0.55) * np.exp(-((distance / rng.uniform(0.5, 0.8)) ** 2)) + 0.25 * np.exp(
        -((distance / 0.22) ** 2)
    )
    scene = scene * np.exp(-shade[..., None] * np.array((0.8, 1.1, 1.0), np.float32))
    if rng.random() < 0.4:
        reflex = np.exp(-((distance / 0.045) ** 2)) + 0.2 * np.exp(-(((distance - 0.5) / 0.05) ** 2))
        scene = scene + 0.25 * reflex[..., None] * np.array((0.9, 1.0, 0.8), np.float32)
    return np.asarray(scene, np.float32)


@dataclass(frozen=True, kw_only=True)
class _Disc:
    """Optic disc and cup as (Y, X) radii in units of their outlines: below 1 is inside."""

    frame: Frame
    disc: Field
    cup: Field

    @classmethod
    def draw(cls, rng: Random, frame: Frame) -> _Disc:
        """A slightly wavy ellipse, higher than wide, and a smaller one in it, towards temporal."""
        ratio, height = rng.uniform(0.3, 0.68), rng.uniform(1.02, 1.16)
        shift = (rng.uniform(0.0, 0.06), rng.uniform(-0.03, 0.03))
        return cls(
            frame=frame,
            disc=_outline(rng, frame, (0.0, 0.0), 0.5, height),
            cup=_outline(rng, frame, shift, 0.5 * ratio, height * rng.uniform(0.92, 1.05)),
        )

    def mask(self, cup: bool) -> Labels:
        labels = (self.disc < 1).astype(np.uint8)
        return np.where((labels == 1) & (self.cup < 1), np.uint8(2), labels) if cup else labels


def _outline(rng: Random, frame: Frame, centre: tuple[float, float], radius: float, height: float) -> Field:
    across, down = frame.anatomy
    across, down = across - centre[0], (down - centre[1]) / height
    angle = np.arctan2(down, across)
    waves = sum(rng.normal(0, 0.025) * np.cos(order * angle + rng.uniform(0, 6.3)) for order in (2, 3))
    return np.asarray(np.hypot(across, down) / (radius * (1 + waves)), np.float32)


def _paint_disc(rng: Random, disc: _Disc, scene: Field, clarity: float) -> Field:
    """Rim pink-yellow, brighter towards temporal; cup paler; about it a ring of shade or an atrophic crescent."""
    frame, soft = disc.frame, rng.uniform(0.05, 0.16)
    across, _ = frame.anatomy
    if rng.random() < 0.5:
        crescent = smoothstep(disc.disc, 1.35, 1.1) * smoothstep(across + 0 * disc.disc, 0.1, 0.5)
        scene = scene * (1 + rng.uniform(-0.25, 0.35) * crescent[..., None])
    inside = smoothstep(disc.disc, 1 + soft, 1 - soft)[..., None] * (0.62 + 0.38 * clarity)
    local = np.clip(scene.mean((0, 1)), 0.15, None)
    rim = local * np.array((1.8, 1.95, 1.55)) * rng.uniform(0.9, 1.15) + (0.1, 0.06, 0.02)
    rim = rim * (1 + 0.45 * np.clip(across, -0.5, 0.5) + 0.05 * frame.noise(rng, 0.15))[..., None]
    pale = local.max() * np.array((2.9, 2.3, 1.25)) * rng.uniform(0.8, 1.2)
    scene = scene + inside * (rim - scene)
    depth = smoothstep(disc.cup, 1.25, 0.55)[..., None] * rng.uniform(0.5, 0.95)
    return np.asarray(scene + inside * depth * (pale - scene), np.float32)


def _paint_vessels(scene: Field, depth: Field, vein: bool, clarity: float) -> Field:
    """Blood absorbs (Beer-Lambert); the wide vessels' middle reflects the flash, the arteries' more."""
    colour = VEIN if vein else ARTERY
    blood = np.exp(-depth[..., None] * colour * (0.55 + 0.6 * clarity))
    core = smoothstep(cv2.GaussianBlur(depth, (0, 0), depth.shape[0] / 400), 0.62, 0.95)
    reflex = (0.03 if vein else 0.10) * core * np.clip(1.2 - scene[..., 1], 0, 1)
    return np.asarray(scene * (blood + reflex[..., None] * np.array((1.0, 0.75, 0.6))), np.float32)


def _paint_lesions(rng: Random, frame: Frame, scene: Field) -> Field:
    """Hard exudates (bright, near the macula) and haemorrhages (dark blots)."""
    centre = np.array(frame.fovea)
    clusters = centre + rng.normal(0, 0.9, (rng.integers(1, 5), 2))
    spots = np.concatenate([where + rng.normal(0, 0.2, (rng.integers(8, 40), 2)) for where in clusters])
    exudate = _dots(frame, spots, rng.gamma(2.0, 0.011, len(spots)))[..., None]
    blots = centre + rng.normal(0, 1.5, (rng.integers(0, 14), 2))
    blood = _dots(frame, blots, rng.gamma(2.0, 0.02, len(blots)))[..., None]
    yellow = scene[..., 0].mean() * np.array((2.3, 1.75, 0.7)) * rng.uniform(0.7, 1.1)
    return np.asarray((scene + 0.85 * exudate * (yellow - scene)) * np.exp(-0.8 * blood * VEIN), np.float32)


def _dots(frame: Frame, places: NDArray[np.float64], radii: NDArray[np.float64]) -> Field:
    canvas = np.zeros((frame.size, frame.size), np.uint8)
    for (across, down), radius in zip(places, radii, strict=True):
        x, y = frame.origin[1] + frame.side * across * frame.diameter, frame.origin[0] + down * frame.diameter
        axes = (round(radius * frame.diameter * 16) + 8, round(0.7 * radius * frame.diameter * 16) + 8)
        cv2.ellipse(canvas, (round(x * 16), round(y * 16)), axes, 57.0 * across * 9, 0, 360, 255, -1, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.012 * frame.diameter + 0.3), np.float32) / 255
