"""From a trained network back to the native grid of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from napari_tlseg.data.annotations import read_roi
from napari_tlseg.data.case import Case, Image, Labels
from napari_tlseg.data.crops import Crop
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.events import Control
from napari_tlseg.learn.device import autocast, move
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.learn.volumes import Patch
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.nets.unet import UNet, probabilities

BATCH = 8
OVERLAP = 0.25
"""Of neighbouring patches of a volume, as a share of their sides; where they overlap the middle of each counts more."""


@dataclass(frozen=True)
class Found:
    """What a model sees in an image."""

    planes: list[Labels]
    """The classes of each plane, (Y, X) on the native grid, before any cleaning."""
    focus: str = ""
    """Of a model that looks at crops: what said where, `click` or `localizer`."""
    doubt: str = ""
    """Why the mask may be wrong, in words; empty where nothing speaks against it."""
    crop: Crop | None = None
    """What was looked at; None for all of the image."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained U-Net with all that it takes to segment an image."""

    model: UNet
    provenance: Provenance
    clean: Postprocess = field(default_factory=Postprocess)
    precision: torch.dtype = torch.float32

    def find(self, image: Image, click: tuple[int, float, float] | None, control: Control) -> Found | None:
        """The classes of each plane; None after a stop. The click (plane, y, x) says nothing to this model."""
        found = []
        for plane in self.planes(image):
            found.append(plane)
            if control.stop:
                return None
        return Found(found)

    def planes(self, image: Image) -> Iterator[Labels]:
        """The classes of each plane, (Y, X) on the native grid, in order, before any cleaning.

        Probabilities are interpolated before the class is chosen, so that outlines are smooth.
        """
        return map(choose, self.chances(image))

    def chances(self, image: Image) -> Iterator[NDArray[np.float32]]:
        """What is `telling` of each plane, (classes or 1, Y, X) on the native grid; a batch of planes at a time."""
        recipe, size, count = find_recipe(self.provenance.recipe), self.provenance.size, image.geometry.plane_shape[0]
        frame = recipe.frame(image, size)
        self.model.eval()
        squares = recipe.squares(image, range(count), size)
        while together := list(islice(squares, self.together(count))):
            yield from (frame.native(telling(found)) for found in self.forward(together))

    def together(self, count: int) -> int:
        """How many of the planes of a volume pass the network at once."""
        return BATCH

    def around(self, plane: int, count: int) -> range:
        """The planes that the classes of one depend on."""
        return range(plane, plane + 1)

    def looking_at(self, image: Image, plane: int, click: tuple[int, float, float] | None) -> Callable[[], Labels]:
        """Prepare a plane once; each call gives the classes (Y, X) that the model sees there, as it is by then."""
        size, planes = self.provenance.size, self.around(plane, image.geometry.plane_shape[0])
        recipe = find_recipe(self.provenance.recipe)
        frame, squares = recipe.frame(image, size), list(recipe.squares(image, planes, size))
        self.model.eval()
        return lambda: choose(frame.native(telling(self.forward(squares)[plane - planes.start])))

    def finish(self, planes: list[Labels], case: Case) -> Labels:
        """The cleaned labels (N, Y, X) of a case; its region of interest is respected."""
        return self.clean.apply(
            np.stack(planes),
            spacing=case.geometry.plane_spacing,
            classes=self.provenance.classes,
            roi=None if self.clean.keep_outside else read_roi(case),
        )

    def forward(self, squares: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, classes, size, size) probabilities, of planes that follow each other."""
        device = next(self.model.parameters()).device
        batch = move(torch.from_numpy(np.stack(squares)), device)
        with torch.inference_mode(), autocast(device, self.precision):
            logits = self.model(batch)
        return probabilities(logits).cpu().numpy()


class VolumeSegmenter(Segmenter):
    """One whose network sees a patch of a volume at a time: by a sliding window, the planes as they were scanned."""

    def together(self, count: int) -> int:
        """All of them."""
        return count

    def around(self, plane: int, count: int) -> range:
        """As many as a patch has."""
        depth = self._patch.depth
        first = max(0, min(plane - depth // 2, count - depth))
        return range(first, min(first + depth, count))

    def forward(self, squares: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, classes, size, size) probabilities, of planes that follow each other."""
        from monai.inferers import sliding_window_inference  # takes seconds to import

        device = next(self.model.parameters()).device
        volume = torch.from_numpy(np.stack(squares, axis=1))[None]
        with torch.inference_mode(), autocast(device, self.precision):
            chances: torch.Tensor = sliding_window_inference(
                volume,
                roi_size=self._patch.shape,
                sw_batch_size=1,
                predictor=lambda patch: probabilities(self.model(move(patch, device))),
                overlap=OVERLAP,
                mode="gaussian",
                sw_device=device,
                device="cpu",
            )
        return chances[0].movedim(1, 0).numpy()

    @property
    def _patch(self) -> Patch:
        assert self.provenance.patch is not None
        return Patch(*self.provenance.patch)


def make_segmenter(
    model: UNet, provenance: Provenance, clean: Postprocess | None = None, precision: torch.dtype = torch.float32
) -> Segmenter:
    """One for the network: of planes, or of volumes."""
    kind = VolumeSegmenter if provenance.patch else Segmenter
    return kind(model, provenance, clean or Postprocess(), precision)


def telling(chances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the probabilities (classes, Y, X) those that decide: of two classes the foreground's, else all."""
    return chances[1:] if len(chances) == 2 else chances


def choose(chances: NDArray[np.float32]) -> Labels:
    """What `telling` gave, on any grid, to the class of each pixel (Y, X)."""
    chosen = chances[0] > 0.5 if len(chances) == 1 else chances.argmax(axis=0)
    labels: Labels = chosen.astype(np.uint8)
    return labels


def certainty(chances: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `telling` gave, to the probability (Y, X) of the class that is chosen."""
    sure: NDArray[np.float32] = np.maximum(chances[0], 1 - chances[0]) if len(chances) == 1 else chances.max(axis=0)
    return sure
