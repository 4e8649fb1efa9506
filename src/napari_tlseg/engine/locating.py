"""Images to centres: where a localizer sees the target, in pixels of each image."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.tables import write_points
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.engine.running import Stopped, noted, require_free
from napari_tlseg.engine.source import MODEL
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Started, Visited
from napari_tlseg.learn.device import autocast, pick_device, pick_precision, settle
from napari_tlseg.nets.checkpoint import Checkpoint, load, load_model
from napari_tlseg.options import Precision

BATCH = 8
Points = dict[str, tuple[float, ...]]
"""`Case.key` → (y, x) or (z, y, x), stored pixel indices."""


def locate(job: Locate, control: Control) -> Iterator[Event]:
    """Guess the centre in every image, and write the table; after a stop, with the centres found so far."""
    _refuse_clicks(job)
    require_free(job.out, job.overwrite)
    dataset = read_dataset(job.data)
    checkpoint = load(job.model / MODEL if job.model.is_dir() else job.model)
    localizer = _Localizer(job, checkpoint)
    height, notes = _usual_height(dataset)
    yield from noted(notes)
    yield Started(stage="locate", total=len(dataset))
    centres: Points = {}
    for start in range(0, len(dataset), BATCH):
        cases = dataset.cases[start : start + BATCH]
        try:
            centres |= localizer.centres(cases, height, control)
        except Stopped:
            break
        yield from (Visited(case=case.name) for case in cases)
    if not centres:
        raise Stopped
    write_points(job.out, centres)
    done = len(centres) == len(dataset)
    summary = {"centres": len(centres), "cases": len(dataset)}
    yield Finished(reason="done" if done else "stopped", out=job.out, summary=summary)


class _Localizer:
    """A trained localizer with all that it takes to find the centre in an image."""

    def __init__(self, job: Locate, checkpoint: Checkpoint) -> None:
        if checkpoint.provenance.task != "localize":
            remedy = "give a source that was pretrained on clicks"
            raise InputError("holds a U-Net, which finds masks and no centres", checkpoint.path, remedy)
        self._device = pick_device(job.device)
        chosen: Precision = "float32" if job.precision == "auto" else job.precision  # bfloat16 knows 1/256 of the side
        self._precision = pick_precision(chosen, self._device)
        self._facts, self._model = checkpoint.provenance, load_model(checkpoint)
        self._recipe = find_recipe(self._facts.recipe)
        settle(self._model, self._device)

    def centres(self, cases: tuple[Case, ...], height: float, control: Control) -> Points:
        """Of each case, in one batch; Stopped where the user does not want to wait for them."""
        squares = []
        for case in cases:
            if control.stop:
                raise Stopped
            squares.append(self._square(case, _plane_at(height, case)))
        pairs = zip(cases, self._forward(squares), strict=True)
        return {case.key: self._stored(point, height, case) for case, point in pairs}

    def _square(self, case: Case, plane: int) -> NDArray[np.float32]:
        image = read_image(case.image, case.page)
        channels, wanted = self._recipe.channels(image), self._facts.in_channels
        if channels != wanted:
            found = f"has {channels} channels, the model takes {wanted}"
            raise InputError(found, case.image, "give images like those of the training")
        (square,) = self._recipe.squares(image, [plane], self._facts.size)
        return square

    def _forward(self, squares: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, 2) yx, fractions of the side."""
        batch = torch.from_numpy(np.stack(squares)).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(self._device, self._precision):
            found: NDArray[np.float32] = self._model(batch).float().cpu().numpy()
        return found

    def _stored(self, point: NDArray[np.float32], height: float, case: Case) -> tuple[float, ...]:
        """A fraction of the square's side as stored pixel indices, within the image, to a hundredth of a pixel."""
        shape = case.geometry.plane_shape[1:]
        native = Letterbox(shape, self._facts.size).native_point(*(point.astype(float) * self._facts.size - 0.5))
        y, x = (min(max(place, 0.0), side - 1.0) for place, side in zip(native, shape, strict=True))
        stored = case.geometry.point_from_planes(_plane_at(height, case), y, x)
        return tuple(round(place, 2) for place in stored)


def _refuse_clicks(job: Locate) -> None:
    """Guesses are no annotations: a source would learn its own errors from them."""
    if job.out.resolve() == (job.data / "clicks.csv").resolve():
        raise InputError("is where the clicks are, guesses would be learned from", job.out, "choose another --out")


def _usual_height(dataset: Dataset) -> tuple[float, tuple[str, ...]]:
    """Where along the planes of a volume the target is looked for, 0 to 1; and where there are volumes, why there."""
    if not any(len(case.geometry.shape) == 3 for case in dataset):
        return 0.5, ()
    heights = [_height(case.click, case) for case in dataset.clicked if case.click and len(case.geometry.shape) == 3]
    where = "at the median height of those clicked" if heights else "in the middle, as none is clicked"
    return median(heights or [0.5]), (f"A localizer does not find the slice of a volume: its guess lies {where}.",)


def _height(click: tuple[float, ...], case: Case) -> float:
    plane, _, _ = case.geometry.point_to_planes(click)
    return (plane + 0.5) / case.geometry.plane_shape[0]


def _plane_at(height: float, case: Case) -> int:
    count = case.geometry.plane_shape[0]
    return min(int(height * count), count - 1)
