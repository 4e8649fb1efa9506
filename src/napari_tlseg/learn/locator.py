"""From a trained localizer to the target's centre in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from napari_tlseg.data.case import Image
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.errors import InputError
from napari_tlseg.learn.device import autocast, settle
from napari_tlseg.nets.checkpoint import Checkpoint, Provenance, load_model
from napari_tlseg.nets.heads import AnyLocalizer, HeatmapLocalizer


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the target seems to be in a plane."""

    y: float
    x: float
    """Native pixels, within the plane."""
    doubt: float | None
    """Native pixels: how far off it is to be expected (root mean square); None where the head knows no doubt."""
    unsure: bool
    """More doubt than 19 of 20 of the localizer's validation cases."""


@dataclass(frozen=True, eq=False)
class Locator:
    """A localizer with all that it takes to find the centre in an image."""

    model: AnyLocalizer
    provenance: Provenance
    precision: torch.dtype = torch.float32

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, precision: torch.dtype) -> Self:
        """The localizer of a file, on a device. InputError where the file holds something else."""
        if checkpoint.provenance.task != "localize":
            remedy = "give a source that was pretrained on clicks"
            raise InputError("holds a U-Net, which finds masks and no centres", checkpoint.path, remedy)
        model = load_model(checkpoint)
        assert isinstance(model, AnyLocalizer)
        settle(model, device)
        return cls(model, checkpoint.provenance, precision)

    @property
    def reach(self) -> float | None:
        """95th percentile of its errors on validation cases, share of the longer side; None where nobody knows."""
        return self.provenance.scores.get("reach")

    @property
    def doubts(self) -> bool:
        """Whether it can say how sure it is."""
        return isinstance(self.model, HeatmapLocalizer)

    def square(self, image: Image, plane: int) -> NDArray[np.float32]:
        """A plane (C, size, size) as the localizer sees it."""
        recipe = find_recipe(self.provenance.recipe)
        channels, wanted = recipe.channels(image), self.provenance.in_channels
        if channels != wanted:
            found = f"has {channels} channels, the model takes {wanted}"
            raise InputError(found, image.path, "give images like those of the training")
        return next(recipe.squares(image, [plane], self.provenance.size))

    def frame(self, image: Image) -> Letterbox:
        """Where a plane lies in the square."""
        return find_recipe(self.provenance.recipe).frame(image, self.provenance.size)

    def find(self, image: Image, plane: int) -> Place:
        """The centre in one plane."""
        (place,) = self.find_all([self.square(image, plane)], [self.frame(image)])
        return place

    def find_all(self, squares: Sequence[NDArray[np.float32]], frames: Sequence[Letterbox]) -> list[Place]:
        """The centre in each square, in pixels of the plane (Y, X) that its frame is of; one batch."""
        self.model.eval()
        device = next(self.model.parameters()).device
        batch = torch.from_numpy(np.stack(squares)).to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(device, self.precision):
            output = self.model(batch)
        found = self.model.places(output).tolist()
        return [self._place(y, x, doubt, frame) for (y, x, doubt), frame in zip(found, frames, strict=True)]

    def _place(self, y: float, x: float, doubt: float, frame: Letterbox) -> Place:
        size, scores, shape = frame.size, self.provenance.scores, frame.shape
        limit = scores.get("doubt_p95")
        native = frame.native_point(y * size - 0.5, x * size - 0.5)
        y, x = (min(max(place, 0.0), side - 1.0) for place, side in zip(native, shape, strict=True))
        known = None if math.isnan(doubt) else doubt * (scores.get("calibration") or 1.0) * max(shape)
        return Place(y=y, x=x, doubt=known, unsure=limit is not None and doubt > limit)


def usual_plane(height: float, count: int) -> int:
    """The plane of a volume of `count` that lies at a height from 0 to 1."""
    return min(int(height * count), count - 1)
