"""Where a retina lies in its photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from napari_tlseg.data.phantoms.noise import Field, Random, smooth_noise

Eye = Literal["left", "right"]
Centre = Literal["macula", "disc"]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where the retina lies in the picture; anatomy is in disc diameters from the disc: (temporal, inferior)."""

    size: int
    field: tuple[float, float, float]
    """Field of view: y, x, radius, pixels."""
    origin: tuple[float, float]
    """Disc centre (y, x), pixels."""
    diameter: float
    """Of the disc, pixels."""
    side: int
    """+1 where temporal is to the right of the picture: a left eye."""
    fovea: tuple[float, float]

    @classmethod
    def draw(cls, rng: Random, size: int, eye: Eye | None, centre: Centre | None) -> Frame:
        eye = eye or ("left" if rng.random() < 0.5 else "right")
        centre = centre or ("macula" if rng.random() < 0.65 else "disc")
        side = 1 if eye == "left" else -1
        radius = size * rng.uniform(0.465, 0.505)
        middle = size * (0.5 + rng.normal(0, 0.008, 2))
        fovea = (rng.uniform(2.4, 2.75), rng.uniform(0.05, 0.45))
        diameter = size * (rng.uniform(0.1, 0.13) if centre == "macula" else rng.uniform(0.13, 0.17))
        looked_at = np.array((fovea[1], side * fovea[0]) if centre == "macula" else (0.0, 0.0))
        origin = middle - looked_at * diameter + rng.uniform(-0.05, 0.05, 2) * size
        return cls(
            size=size,
            field=(float(middle[0]), float(middle[1]), radius),
            origin=(float(origin[0]), float(origin[1])),
            diameter=diameter,
            side=side,
            fovea=fovea,
        )

    @cached_property
    def pixels(self) -> tuple[Field, Field]:
        """(Y, 1) and (1, X) indices."""
        index = np.arange(self.size, dtype=np.float32)
        return index[:, None], index[None, :]

    @cached_property
    def anatomy(self) -> tuple[Field, Field]:
        """(1, X) temporal and (Y, 1) inferior."""
        y, x = self.pixels
        return self.side * (x - self.origin[1]) / self.diameter, (y - self.origin[0]) / self.diameter

    @cached_property
    def eccentricity(self) -> Field:
        """(Y, X) 0 at the centre of the field of view, 1 at its rim."""
        y, x = self.pixels
        return np.asarray(np.hypot(y - self.field[0], x - self.field[1]) / self.field[2], np.float32)

    def away(self, temporal: float, inferior: float) -> Field:
        """(Y, X) distance from a place of the retina, disc diameters."""
        across, down = self.anatomy
        return np.asarray(np.hypot(across - temporal, down - inferior), np.float32)

    def noise(self, rng: Random, scale: float) -> Field:
        """(Y, X), `scale` in disc diameters."""
        return smooth_noise(rng, (self.size, self.size), scale * self.diameter)
