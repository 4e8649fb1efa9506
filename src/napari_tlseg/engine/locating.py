"""Images to centres: where a localizer sees the target, in pixels of each image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.guesses import Guess, write_guesses
from napari_tlseg.data.images import image_of
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.engine.running import Stopped, noted, require_free
from napari_tlseg.engine.source import MODEL
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Started, Visited
from napari_tlseg.learn.device import pick_device, pick_precision
from napari_tlseg.learn.locator import Locator, Place, usual_plane
from napari_tlseg.nets.checkpoint import load
from napari_tlseg.options import Precision

BATCH = 8


def locate(job: Locate, control: Control) -> Iterator[Event]:
    """Guess the centre in every image, and write the table; after a stop, with the centres found so far."""
    _refuse_clicks(job)
    require_free(job.out, job.overwrite)
    dataset = read_dataset(job.data, unreadable=job.unreadable)
    locator = load_locator(job.model, job.device, job.precision)
    height, notes = usual_height(dataset)
    yield from noted((*dataset.left_out.values(), *notes))
    yield Started(stage="locate", total=len(dataset))
    places: dict[str, Place] = {}
    for start in range(0, len(dataset), BATCH):
        cases = dataset.cases[start : start + BATCH]
        try:
            places |= _places(locator, cases, height, control)
        except Stopped:
            break
        yield from (Visited(case=case.name) for case in cases)
    if not places:
        raise Stopped
    _write(job.out, dataset, places, height)
    if unsure := sum(place.unsure for place in places.values()):
        limit = "there is more doubt than in 19 of 20 of the localizer's own validation images"
        yield Noted(text=f"{unsure} of {len(places)} centres are unsure: {limit}.")
    done = len(places) == len(dataset)
    summary = {"centres": len(places), "cases": len(dataset)} | ({"unsure": unsure} if locator.doubts else {})
    yield Finished(reason="done" if done else "stopped", out=job.out, summary=summary)


def load_locator(path: Path, device: str, precision: Precision) -> Locator:
    """The localizer of a file or a folder, on a device."""
    chosen = pick_device(device)
    exact: Precision = "float32" if precision == "auto" else precision  # bfloat16 knows 1/256 of the side
    checkpoint = load(path / MODEL if path.is_dir() else path)
    return Locator.of(checkpoint, chosen, pick_precision(exact, chosen))


def _places(locator: Locator, cases: tuple[Case, ...], height: float, control: Control) -> dict[str, Place]:
    """Of each case, by name, in one batch; Stopped where the user does not want to wait for them."""
    squares, frames = [], []
    for case in cases:
        if control.stop:
            raise Stopped
        image = image_of(case)
        squares.append(locator.square(image, _plane_at(height, case)))
        frames.append(locator.frame(image))
    found = locator.find_all(squares, frames)
    return {case.name: place for case, place in zip(cases, found, strict=True)}


def _write(path: Path, dataset: Dataset, places: dict[str, Place], height: float) -> None:
    cases = [case for case in dataset if case.name in places]
    write_guesses(path, {case.key: guess_of(places[case.name], case, _plane_at(height, case)) for case in cases})


def guess_of(place: Place, case: Case, plane: int) -> Guess:
    """A place in a plane, as the image is stored."""
    point = case.geometry.point_from_planes(plane, place.y, place.x)
    return Guess(point=point, doubt=place.doubt, unsure=place.unsure)


def _refuse_clicks(job: Locate) -> None:
    """Guesses are no annotations: a source would learn its own errors from them."""
    if job.out.resolve() == (job.data / "clicks.csv").resolve():
        raise InputError("is where the clicks are, guesses would be learned from", job.out, "choose another --out")


def usual_height(dataset: Dataset) -> tuple[float, tuple[str, ...]]:
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
    return usual_plane(height, case.geometry.plane_shape[0])
