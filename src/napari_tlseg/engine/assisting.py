"""Help while someone clicks: a small localizer that learns on after every few clicks and proposes the next centres."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.images import image_of
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.recipes import pick_recipe
from napari_tlseg.data.tables import read_clicks
from napari_tlseg.engine.jobs import Assist
from napari_tlseg.engine.locating import guess_of
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Proposed, Started
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.locator import Locator
from napari_tlseg.learn.objectives import Localize
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import make_localizer
from napari_tlseg.options import Precision

STEPS, MORE = 50, 20
"""Training steps the first time, and each time after: seconds on two cores."""
SIZE, BATCH = 96, 8
RATE = 1e-3
UNSURE = 0.15
"""Doubt as a share of the image's longer side: the heat map has a second place, or none."""
Clicks = Mapping[str, tuple[float, ...]]
"""(y, x) by case name, of the images with a visible target."""


def assist(job: Assist, control: Control) -> Iterator[Event]:
    """Learn and propose whenever there are enough new clicks, and wait to be woken; meanwhile prepare the images."""
    dataset = read_dataset(job.data, unreadable=job.unreadable)
    if any(len(case.geometry.shape) == 3 for case in dataset):
        raise InputError("holds volumes, whose slice no localizer finds", dataset.folder, "click them without help")
    learner = _learner(dataset.folder, tuple(case.name for case in dataset), job.device, job.precision, job.seed)
    stale = learner.has_learned
    with _one_core_left():
        while not control.stop:
            looked_at = read_clicks(dataset.folder, dataset.cases, dataset.left_out)
            others = [case for case in dataset if case.name not in looked_at]
            clicks = {name: point for name, point in looked_at.items() if point}
            if others and len(clicks) >= job.first and learner.news(clicks) >= job.every:
                yield from learner.learn(dataset, clicks, control)
                stale = True
            elif others and stale:
                yield from learner.propose(others, control)
                stale = False
            elif not learner.prepare_one(others):
                control.wait()
    yield Finished(reason="stopped", out=None)


class _View(NamedTuple):
    square: NDArray[np.float16]
    """(C, SIZE, SIZE) in [0, 1]."""
    frame: Letterbox


class Learner:
    """A localizer by heat map in the making, and the images as it sees them."""

    def __init__(self, dataset: Dataset, device: torch.device, precision: Precision, seed: int) -> None:
        first = dataset.cases[0]
        recipe, _ = pick_recipe(dataset)
        channels = recipe.channels(image_of(first))
        torch.manual_seed(seed)
        model = make_localizer("heatmap", make_encoder("unet", channels), SIZE)
        settle(model, device)
        facts = Provenance(
            task="localize",
            head="heatmap",
            encoder="unet",
            in_channels=channels,
            classes=dataset.classes,
            recipe=recipe.name,
            size=SIZE,
            scores={"doubt_p95": UNSURE},
        )
        self._locator, self._augment, self._seed = Locator(model, facts), recipe.augment, seed
        self._precision = pick_precision(precision, device)
        self._views: dict[str, _View | None] = {}
        """Of each case that was prepared; None where it cannot be."""
        self._learned: Clicks = {}

    @property
    def has_learned(self) -> bool:
        return bool(self._learned)

    def news(self, clicks: Clicks) -> int:
        """How many are new or moved since it learned."""
        return sum(self._learned.get(name) != point for name, point in clicks.items())

    def prepare_one(self, cases: Sequence[Case]) -> bool:
        """Prepare the next image that was not yet; False where there is none."""
        case = next((case for case in cases if case.name not in self._views), None)
        if case is not None:
            self._view(case)
        return case is not None

    def learn(self, dataset: Dataset, clicks: Clicks, control: Control) -> Iterator[Event]:
        """Go on from what it has learned, with all clicks that there are now; after a stop it counts as not learned."""
        samples: list[Sample] = []
        for name, point in clicks.items():
            if control.stop:
                return
            samples += self._samples(dataset[name], point)
        if not samples:
            raise InputError("holds no clicked image that can be read", dataset.folder, "click them without help")
        steps = MORE if self._learned else STEPS
        yield Started(stage="train", total=steps)
        model = self._locator.model
        optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
        objective = Localize(samples, [], self._augment, BATCH)
        seed = self._seed + len(clicks)
        yield from fit(
            model, objective, optimizer, Schedule(steps=steps), precision=self._precision, seed=seed, control=control
        )
        if not control.stop:
            self._learned = clicks

    def propose(self, cases: Sequence[Case], control: Control) -> Iterator[Event]:
        """Where it sees the target in each case."""
        for start in range(0, len(cases), BATCH):
            if control.stop:
                return
            chunk = cases[start : start + BATCH]
            read = [(case, view) for case in chunk if (view := self._view(case)) is not None]
            squares, frames = [view.square.astype(np.float32) for _, view in read], [view.frame for _, view in read]
            places = self._locator.find_all(squares, frames) if read else ()
            for (case, _), place in zip(read, places, strict=True):
                facts = asdict(guess_of(place, case, 0))
                yield Proposed(clicks=len(self._learned), case=case.name, **facts)

    def _samples(self, case: Case, point: tuple[float, ...]) -> Iterator[Sample]:
        view = self._view(case)
        if view is not None:
            _, y, x = case.geometry.point_to_planes(point)
            yield Sample(case=case.name, image=view.square, frame=view.frame, point=view.frame.point(y, x))

    def _view(self, case: Case) -> _View | None:
        """How the localizer sees it, kept; None where the image cannot be read, or is of another kind."""
        if case.name not in self._views:
            try:
                image = image_of(case)
                square = self._locator.square(image, 0).astype(np.float16)
                self._views[case.name] = _View(square, self._locator.frame(image))
            except InputError:
                self._views[case.name] = None
        return self._views[case.name]


@lru_cache(maxsize=1)
def _learner(folder: Path, names: tuple[str, ...], device: str, precision: Precision, seed: int) -> Learner:
    """The one that was stopped last goes on, if it is of the same cases."""
    return Learner(read_dataset(folder, unreadable="skip"), pick_device(device), precision, seed)


@contextmanager
def _one_core_left() -> Iterator[None]:
    """For whoever clicks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
