"""The shapes of a thorax as signed distances, in the millimetres of an average chest: negative inside.

x runs to the patient's left, y to the back, z to the head; 0 is the middle of the picture, and z = 0 the lowest slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from napari_tlseg.data.phantoms.noise import Field, Random, smooth_noise, smoothstep

WIDTH, HEIGHT = 384.0, 240.0
"""mm across the picture and from the lowest slice to the highest, which every volume is scaled to."""

AIRWAYS = (  # trachea, main bronchi, lower-lobe bronchi: points (x, y, z) and radii, mm
    ((0, 14, 244), (0, 20, 142), 8.5),
    ((0, 20, 142), (-34, 22, 122), 7.0),
    ((0, 20, 142), (38, 24, 116), 6.5),
    ((-34, 22, 122), (-52, 34, 88), 4.5),
    ((38, 24, 116), (56, 38, 84), 4.5),
)


@dataclass(frozen=True, kw_only=True)
class Build:
    """What differs from patient to patient; mm and fractions."""

    width: float
    depth: float
    fat: float
    breast: float
    heart: float
    dome: float
    blood: float
    """HU: about 40, or more after contrast medium."""

    @classmethod
    def draw(cls, rng: Random) -> Build:
        return cls(
            width=rng.uniform(148, 170),
            depth=rng.uniform(104, 120),
            fat=rng.uniform(5, 18),
            breast=rng.uniform(12, 34) if rng.random() < 0.45 else 0.0,
            heart=rng.uniform(0.88, 1.12),
            dome=rng.uniform(48, 84),
            blood=40.0 if rng.random() < 0.6 else rng.uniform(110, 190),
        )


@dataclass(frozen=True, kw_only=True)
class Thorax:
    """Signed distances, (Z, Y, X) or what broadcasts to it, mm."""

    build: Build
    z: Field
    y: Field
    x: Field
    scanner: tuple[Field, Field]
    """(y, x) of the scanner; y and x are the patient's, who lies a little turned and is not quite symmetric."""

    @classmethod
    def sample(cls, rng: Random, build: Build, shape: tuple[int, int, int]) -> Thorax:
        z, y, x = ((np.arange(n, dtype=np.float32) + 0.5) / n for n in shape)
        y, x = (y[None, :, None] - 0.5) * WIDTH, (x[None, None, :] - 0.5) * WIDTH
        bends = [rng.uniform(1, 4) * smooth_noise(rng, shape[1:], 0.1 * shape[2])[None] for _ in range(2)]
        turn, down, across = rng.normal(0, 0.03), rng.normal(0, 4), rng.normal(0, 4)
        return cls(
            build=build,
            z=(z * HEIGHT)[:, None, None],
            y=(y + turn * x + down + bends[0]).astype(np.float32),
            x=(x - turn * y + across + bends[1]).astype(np.float32),
            scanner=(y, x),
        )

    @cached_property
    def body(self) -> Field:
        build = self.build
        shoulders = smoothstep(self.z, 150, 225)
        breasts = build.breast * np.exp(-(((np.abs(self.x) - 78) / 42) ** 2) - ((self.z - 105) / 42) ** 2)
        front = build.depth + breasts - 14 * shoulders
        groove = 9 * np.exp(-((self.x / 16) ** 2))
        half_depth = np.where(self.y < 0, front, build.depth - groove)
        half_width = build.width + 24 * shoulders - 8 * smoothstep(self.z, 60, 0)
        return _oval(self.x, self.y, half_width, half_depth, 2.4)

    @cached_property
    def cavity(self) -> Field:
        """The inner face of the ribs; it closes towards the apex."""
        taper = np.sqrt(np.clip(1 - (np.clip(self.z - 78, 0, None) / 166) ** 2, 0.01, 1))
        half_width = (self.build.width - 32) * (0.12 + 0.88 * taper)
        half_depth = (self.build.depth - np.where(self.y > 4, 20, 27)) * (0.3 + 0.7 * taper)
        return _oval(self.x, self.y - 4 - 18 * (1 - taper), half_width, half_depth, 2.25)

    @cached_property
    def spine(self) -> float:
        """Where along y the centre of the vertebral bodies is."""
        return self.build.depth - 50

    @cached_property
    def heart(self) -> Field:
        x, y, z = self.x - 20, self.y + 26, self.z - 82
        turned = (0.85 * x - 0.5 * y, 0.5 * x + 0.85 * y)
        radius = np.sqrt((turned[0] / 58) ** 2 + (turned[1] / 42) ** 2 + (z / 60) ** 2)
        return np.asarray((radius - self.build.heart) * 44, np.float32)

    @cached_property
    def mediastinum(self) -> Field:
        """Heart, great vessels, spine and the septum that joins them to the sternum."""
        spine = np.hypot(self.x, self.y - self.spine) - 25
        height = smoothstep(self.z, 100, 130)
        vessels = _oval(self.x - 3, self.y + 4, 30 - 4 * smoothstep(self.z, 170, 235), 38, 2) + 30 * (1 - height)
        septum = np.abs(self.x - 2) - 5 - 0.04 * np.abs(self.y + 20) + 0 * self.z
        return _join(self.heart, _join(vessels, _join(spine, septum, 10), 14), 10)

    @cached_property
    def diaphragm(self) -> Field:
        """Two domes, the right one higher: negative below."""
        x = self.x
        right = self.build.dome - np.where(x < -60, 62, 26) * ((x + 60) / 62) ** 2
        left = self.build.dome - 14 - np.where(x > 60, 62, 26) * ((x - 60) / 62) ** 2
        dome = np.where(x < 0, right, left) - np.where(self.y > -14, 58, 36) * ((self.y + 14) / 80) ** 2
        return np.asarray(0.6 * (self.z - np.maximum(dome, -60)), np.float32)

    @cached_property
    def lung(self) -> Field:
        return _both(self.cavity, 3 - self.mediastinum, -self.diaphragm)

    @cached_property
    def ribs(self) -> Field:
        """Each rib falls by 85 mm from the spine to the front, so that an axial slice cuts many of them."""
        around = np.arctan2(np.abs(self.x), self.y - 4) / float(np.pi)
        phase = (self.z + 85 * around) / 26
        along = 26 * np.abs(phase % 1 - 0.5) - 6.5
        return _both(np.abs(self.cavity - 7) - 4.2, along) + 40 * smoothstep(around, 0.80, 0.88)

    @cached_property
    def sternum(self) -> Field:
        front = np.abs(self.y + self.build.depth - 22 - 0.06 * (self.z - 120) + 0.003 * self.x**2) - 6
        side = np.abs(self.x) - 17 - 10 * smoothstep(self.z, 160, 200)
        return _both(front, side, np.abs(self.z - 130) - 78)

    @cached_property
    def scapulae(self) -> Field:
        across, back = np.abs(self.x) - 108, self.y - 52
        blade = np.abs(0.72 * across + 0.69 * back - 0.006 * (0.69 * across - 0.72 * back) ** 2) - 3.2
        length = np.abs(0.69 * across - 0.72 * back) - 34 * smoothstep(self.z, 120, 190)
        return _both(blade, length, 132 - self.z)

    @cached_property
    def clavicles(self) -> Field:
        across = np.abs(self.x)
        bone = np.hypot(self.y + 62 - 0.25 * across, self.z - 205 - 0.32 * across) - 7
        return np.asarray(bone + np.clip(14 - across, 0, 40), np.float32)

    @cached_property
    def vertebrae(self) -> tuple[Field, Field]:
        """(bodies and arches, spinal canal)."""
        y = self.y - self.spine
        body = _oval(self.x, y, 17, 14, 2)
        canal = np.hypot(self.x, y - 22) - 8
        height = 26 * np.abs((self.z / 26) % 1 - 0.5)
        arch = _both(np.abs(canal - 3) - 3, height - 10)
        process = _both(np.abs(self.x) - 3, np.abs(y - 38) - 9, height - 8)
        wings = _both(np.abs(y - 20 - 0.25 * np.abs(self.x)) - 4, np.abs(self.x) - 31, height - 6)
        return _either(body, wings, arch, process), canal

    @cached_property
    def disc(self) -> Field:
        """Intervertebral discs, between the bodies."""
        height = 26 * np.abs((self.z / 26 + 0.5) % 1 - 0.5)
        return _both(_oval(self.x, self.y - self.spine, 18, 15, 2), height - 3)

    @cached_property
    def aorta(self) -> Field:
        descending = _both(np.hypot(self.x - 26, self.y - self.spine + 14) - 12.5, self.z - 168)
        ascending = _both(np.hypot(self.x + 8, self.y + 22) - 15, np.abs(self.z - 138) - 32)
        arch = np.abs(np.hypot(self.z - 166, 0.55 * (self.x - 9 - 0.4 * (self.y + 4))) - 2) - 12
        return _either(descending, ascending, _both(arch, np.abs(self.y - 2) - 30))

    @cached_property
    def airway(self) -> Field:
        return _either(*(self._tube(*piece) for piece in AIRWAYS))

    @cached_property
    def table(self) -> Field:
        """The couch's two shells, bent upwards at the sides, under the back."""
        y, x = self.scanner
        bend = self.build.depth + 15 - 0.0011 * x**2
        shells = _either(np.abs(y - bend), np.abs(y - 16 - bend - 0.0005 * x**2)) - 1.2
        return _both(shells, np.abs(x) - 172)

    def _tube(self, start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Field:
        axis = [float(to - fro) for to, fro in zip(end, start, strict=True)]
        offset = [grid - origin for grid, origin in zip((self.x, self.y, self.z), start, strict=True)]
        along = np.clip(sum(o * a for o, a in zip(offset, axis, strict=True)) / sum(a * a for a in axis), 0, 1)
        away = np.sqrt(sum((o - along * a) ** 2 for o, a in zip(offset, axis, strict=True)))
        return np.asarray(away - radius, np.float32)


def _both(*shapes: Field) -> Field:
    """What lies in all of the shapes."""
    return np.asarray(reduce(np.maximum, shapes), np.float32)


def _either(*shapes: Field) -> Field:
    """What lies in any of the shapes."""
    return np.asarray(reduce(np.minimum, shapes), np.float32)


def _oval(x: Field, y: Field, half_width: Field | float, half_depth: Field | float, power: float) -> Field:
    """Radial distance to |x/a|ᵖ + |y/b|ᵖ = 1."""
    level = ((np.abs(x) / half_width) ** power + (np.abs(y) / half_depth) ** power + 1e-6) ** (1 / power)
    return np.asarray(np.hypot(x, y) * (1 - 1 / level), np.float32)


def _join(one: Field, other: Field, soft: float) -> Field:
    """Smooth union: the lesser distance, rounded over `soft` mm where the two are close."""
    blend = np.clip(0.5 + 0.5 * (other - one) / soft, 0, 1)
    return np.asarray(other + (one - other) * blend - soft * blend * (1 - blend), np.float32)
