"""From a trained network back to the native grid of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from napari_tlseg.data.annotations import read_roi
from napari_tlseg.data.case import Case, Image, Labels
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.learn.device import autocast
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.nets.unet import UNet, probabilities

BATCH = 8


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained U-Net with all that it takes to segment an image."""

    model: UNet
    provenance: Provenance
    clean: Postprocess = field(default_factory=Postprocess)
    precision: torch.dtype = torch.float32

    def planes(self, image: Image) -> Iterator[Labels]:
        """The classes of each plane, (Y, X) on the native grid, in order, before any cleaning.

        Probabilities are interpolated before the class is chosen, so that outlines are smooth. Volumes go plane by
        plane, a batch at a time.
        """
        recipe, size = find_recipe(self.provenance.recipe), self.provenance.size
        frame = Letterbox(image.geometry.plane_shape[1:], size)
        self.model.eval()
        squares: list[NDArray[np.float32]] = []
        count = image.geometry.plane_shape[0]
        for plane, square in enumerate(recipe.squares(image, range(count), size)):
            squares.append(square)
            if len(squares) == BATCH or plane == count - 1:
                yield from (_choose(frame, found) for found in self._forward(squares))
                squares.clear()

    def finish(self, planes: list[Labels], case: Case) -> Labels:
        """The cleaned labels (N, Y, X) of a case; its region of interest is respected."""
        return self.clean.apply(
            np.stack(planes),
            spacing=case.geometry.plane_spacing,
            classes=self.provenance.classes,
            roi=None if self.clean.keep_outside else read_roi(case),
        )

    def _forward(self, squares: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, classes, size, size) probabilities."""
        device = next(self.model.parameters()).device
        batch = torch.from_numpy(np.stack(squares)).to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(device, self.precision):
            logits = self.model(batch)
        return probabilities(logits).cpu().numpy()


def _choose(frame: Letterbox, found: NDArray[np.float32]) -> Labels:
    chosen = frame.native(found[1:])[0] > 0.5 if len(found) == 2 else frame.native(found).argmax(axis=0)
    labels: Labels = chosen.astype(np.uint8)
    return labels
