"""Phantoms of one family: a target among what looks like it, in domains that lie at a known distance of each other."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_tlseg.data.files import write_text
from napari_tlseg.data.phantoms.noise import Field, Random, smooth_noise, smoothstep


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What the images of a domain have in common; lengths are shares of their side, brightness is from 0 to 1."""

    radius: float
    """Of the target."""
    elongation: float
    lobes: float
    """How far its outline is from an ellipse, as a share of the radius."""
    contrast: float
    """How much brighter the target is than its surroundings."""
    weave: float
    """Amplitude of the stripes that are in the target and not around it."""
    mottle: float
    mottle_scale: float
    """Amplitude and extent of the spots of the background."""
    lines: float
    line_width: float
    line_depth: float
    """How many cross the image, how wide, and how much darker."""
    decoys: float
    """How many spots are as bright as the target, but smaller and without its bright middle."""
    noise: float

    def towards(self, other: Domain, share: float) -> Domain:
        """The domain at that share of the way to another one: every number in between."""
        between = {f.name: (1 - share) * getattr(self, f.name) + share * getattr(other, f.name) for f in fields(self)}
        return Domain(**between)


DISCS = Domain(
    radius=0.12,
    elongation=1.1,
    lobes=0.05,
    contrast=0.2,
    weave=0.0,
    mottle=0.06,
    mottle_scale=0.12,
    lines=5,
    line_width=0.02,
    line_depth=0.18,
    decoys=4,
    noise=0.03,
)
"""Bright discs between spots and dark vessels, as in a photograph of the fundus."""
ORGANS = Domain(
    radius=0.22,
    elongation=1.8,
    lobes=0.25,
    contrast=0.04,
    weave=0.14,
    mottle=0.1,
    mottle_scale=0.03,
    lines=9,
    line_width=0.05,
    line_depth=-0.12,
    decoys=0,
    noise=0.08,
)
"""Large lobed organs, told by their texture, between bright ribs."""


def draw(domain: Domain, rng: Random, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(image, mask), (size, size) each; the mask is 0 and 1."""
    y, x = ((index + 0.5) / size for index in np.indices((size, size), np.float32))
    contrast = domain.contrast * rng.uniform(0.5, 1.5)
    target = _blob(rng, (y, x), rng.uniform(0.25, 0.75, 2), domain.radius * rng.uniform(0.75, 1.3), domain)
    scene = rng.uniform(0.3, 0.5) + rng.uniform(-0.2, 0.2) * (y - 0.5) + rng.uniform(-0.2, 0.2) * (x - 0.5)
    scene = scene + domain.mottle * smooth_noise(rng, (size, size), domain.mottle_scale * size)
    for _ in range(rng.poisson(domain.decoys)):
        spot = _blob(rng, (y, x), rng.uniform(0, 1, 2), domain.radius * rng.uniform(0.4, 0.8), domain)
        scene = scene + contrast * smoothstep(spot, 1.15, 0.85) * smoothstep(target, 1.0, 1.5)
    scene = scene + contrast * (smoothstep(target, 1.15, 0.85) + 0.6 * smoothstep(target, 0.7, 0.3))
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.05, 0.08)
    stripes = np.sin(2 * np.pi / period * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 6.3))
    scene = scene + domain.weave * rng.uniform(0.6, 1.4) * stripes * smoothstep(target, 1.1, 0.9)
    scene = scene - domain.line_depth * _lines(rng, domain, size)
    scene = scene + domain.noise * rng.standard_normal((size, size), np.float32)
    return np.rint(255 * scene.clip(0, 1)).astype(np.uint8), (target < 1).astype(np.uint8)


def _blob(rng: Random, at: tuple[Field, Field], centre: Field, radius: float, domain: Domain) -> Field:
    """(Y, X) distance from a centre in units of the outline: below 1 is inside."""
    angle, stretch = rng.uniform(0, np.pi), domain.elongation * rng.uniform(0.9, 1.1)
    y, x = at[0] - centre[0], at[1] - centre[1]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    around = np.arctan2(across, along)
    waves = sum(np.cos(order * around + rng.uniform(0, 6.3)) for order in (2, 3, 5)) * domain.lobes / 2
    return np.asarray(np.hypot(along / np.sqrt(stretch), across * np.sqrt(stretch)) / (radius * (1 + waves)))


def _lines(rng: Random, domain: Domain, size: int) -> Field:
    """(Y, X) 1 in curves from one side to the other, 0 elsewhere."""
    canvas, fine = np.zeros((size, size), np.uint8), 16
    for _ in range(rng.poisson(domain.lines)):
        ends = rng.uniform(-0.2, 1.2, (2, 2))
        bow = rng.normal(0, 0.15) * (ends[1] - ends[0])[::-1] * (1, -1)
        way = np.linspace(0, 1, 12)[:, None]
        points = (1 - way) * ends[0] + way * ends[1] + 4 * way * (1 - way) * bow
        width = max(1, round(size * domain.line_width * rng.uniform(0.6, 1.4)))
        cv2.polylines(canvas, [np.rint(points * size * fine).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4)
    return np.asarray(canvas, np.float32) / 255


def write_domain(folder: Path, domain: Domain, count: int, seed: tuple[int, ...], size: int) -> Path:
    """A dataset folder of `count` phantoms, each with its mask."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, mask = draw(domain, np.random.default_rng((*seed, number)), size)
        Image.fromarray(image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(255 * mask).save(folder / "masks" / f"{number:03}.png")
    write_text(folder / "dataset.toml", 'classes = ["background", "target"]\n')
    return folder
