"""The vessel tree of a retina, grown in disc diameters around the optic disc."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from napari_tlseg.data.phantoms.noise import Field, Random

Points = NDArray[np.float64]
STEP = 0.06
"""Length of a vessel's segments, disc diameters."""

# Where the great vessels run: (temporal, inferior) in disc diameters; mirrored for the inferior half.
ARCADE = ((-0.08, -0.05), (-0.08, -0.6), (0.35, -1.4), (1.4, -2.05), (3.0, -2.15), (4.6, -1.8), (6.4, -1.5))
NASAL = ((-0.08, -0.05), (-0.28, -0.55), (-0.9, -1.4), (-1.8, -2.2), (-2.8, -3.2))


@dataclass(frozen=True, kw_only=True)
class Vessel:
    points: Points
    """(N, 2) (temporal, inferior), disc diameters from the disc's centre."""
    widths: Points
    """(N,) disc diameters."""
    vein: bool

    @property
    def headings(self) -> Points:
        """(N,) radians."""
        along = np.gradient(self.points, axis=0)
        return np.asarray(np.arctan2(along[:, 1], along[:, 0]))


def grow_vessels(rng: Random, fovea: Points) -> list[Vessel]:
    """Arteries and veins: two arcades around the macula, two nasal pairs, small radial ones, and their branches."""
    tortuosity = rng.uniform(0.008, 0.025) + (rng.random() < 0.12) * 0.025
    trunks = [
        _trunk(rng, np.array(course) * (1, half), vein, tortuosity)
        for course in (ARCADE, NASAL)
        for half in (1, -1)
        for vein in (True, False)
    ]
    radial = [_radial(rng, fovea) for _ in range(rng.integers(7, 12))]
    return [vessel for trunk in (*trunks, *radial) for vessel in (trunk, *_branches(rng, trunk, fovea, depth=3))]


def draw_vessels(vessels: list[Vessel], size: int, origin: tuple[float, float], diameter: float, side: int) -> Field:
    """(size, size) optical depth in 0..1 of the vessels; a thin vessel is a faint one."""
    fine = 2
    canvas = np.zeros((fine * size, fine * size), np.uint8)
    scale = np.array((side * diameter, diameter)) * fine
    pieces = [piece for vessel in vessels for piece in _pieces(vessel)]
    for points, width in sorted(pieces, key=lambda piece: piece[1]):
        pixels = np.rint((points * scale + np.array(origin[::-1]) * fine) * 16).astype(np.int32)
        breadth = width * diameter * fine
        depth = min(1.0, breadth / max(1, round(breadth))) * (0.4 + 0.6 * min(1.0, width / 0.07))
        cv2.polylines(canvas, [pixels], False, round(255 * depth), max(1, round(breadth)), cv2.LINE_AA, 4)
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), np.float32) / 255


def _pieces(vessel: Vessel, length: int = 6) -> Iterator[tuple[Points, float]]:
    for start in range(0, len(vessel.points) - 1, length):
        part = slice(start, start + length + 1)
        yield vessel.points[part], float(vessel.widths[part].mean())


def _trunk(rng: Random, course: Points, vein: bool, tortuosity: float) -> Vessel:
    """A spline through the course, pushed sideways by a smooth wave that begins outside the disc."""
    course = (
        course * rng.uniform(0.88, 1.14, 2)
        + rng.normal(0, 0.07, course.shape) * np.linspace(0.3, 2, len(course))[:, None]
    )
    knots = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(course, axis=0).T))])
    along = np.arange(0, knots[-1], STEP)
    spline = CubicSpline(knots, course)
    tangent = spline(along, 1)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / (np.hypot(*tangent.T)[:, None] + 1e-6)
    waves = sum(np.sin(along * rng.uniform(2, 9) + rng.uniform(0, 6)) for _ in range(3))
    points = spline(along) + normal * (tortuosity * waves * np.clip(along, 0, 1))[:, None]
    width = rng.uniform(0.075, 0.1) if vein else rng.uniform(0.05, 0.07)
    return Vessel(points=points, widths=width * np.linspace(1, 0.3, len(along)), vein=vein)


def _radial(rng: Random, fovea: Points) -> Vessel:
    angle, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.022, 0.04)
    start = 0.25 * np.array((np.cos(angle), np.sin(angle)))
    return _walk(rng, start, angle, width, rng.uniform(1.0, 3.0), bool(rng.random() < 0.5), fovea)


def _walk(rng: Random, start: Points, heading: float, width: float, length: float, vein: bool, fovea: Points) -> Vessel:
    """A tapering walk whose heading drifts smoothly; temporal ones bend to the fovea and stop at its rim."""
    points, bend, course = [start], 0.0, heading
    for _ in range(max(4, int(length / STEP))):
        bend = 0.85 * bend + rng.normal(0, 0.032) + 0.02 * np.sin(course - heading)
        towards = fovea - points[-1]
        distance = float(np.hypot(*towards))
        if distance < 0.45:
            break
        if distance < 2.3:
            heading += 0.02 * float(np.sin(np.arctan2(towards[1], towards[0]) - heading))
        heading += bend
        points.append(points[-1] + STEP * np.array((np.cos(heading), np.sin(heading))))
    return Vessel(points=np.array(points), widths=width * np.linspace(1, 0.45, len(points)), vein=vein)


def _branches(rng: Random, parent: Vessel, fovea: Points, depth: int) -> Iterator[Vessel]:
    """Branches leave to alternate sides; each has branches of its own, until they are too thin to be seen."""
    if depth == 0 or len(parent.points) < 8:
        return
    places = np.cumsum(rng.uniform(0.3, 0.9, 30)) / STEP + 6
    side = rng.choice((-1, 1))
    for place in places[places < len(parent.points) - 3].astype(int):
        side = -side
        width = parent.widths[place] * rng.uniform(0.35, 0.7)
        if width < 0.009:
            continue
        heading = parent.headings[place] + side * rng.uniform(0.4, 0.95)
        length = rng.uniform(1.0, 3.6) * (width / 0.05) ** 0.5
        branch = _walk(rng, parent.points[place], heading, width, length, parent.vein, fovea)
        yield branch
        yield from _branches(rng, branch, fovea, depth - 1)
