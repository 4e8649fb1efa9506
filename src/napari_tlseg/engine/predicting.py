"""Images to masks, each on the grid of its image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_tlseg.data.annotations import mask_path, read_roi, write_mask
from napari_tlseg.data.case import Case, Image, Labels
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import case_name, read_geometry, read_image
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.running import Stopped, noted, require_writable
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Reason, Started, Visited
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.nets.checkpoint import Checkpoint, load, load_model, read_card, write_card
from napari_tlseg.nets.unet import UNet

CARD = "model.json"
"""Beside the masks: what the model is that made them, and which cases it was trained on."""


def predict(job: Predict, control: Control) -> Iterator[Event]:
    """Write one mask per case, a whole file or none."""
    cases, notes = _cases(job.data)
    _refuse_true_masks(job, cases)
    checkpoint = load(job.model / "model.safetensors" if job.model.is_dir() else job.model)
    segmenter = _segmenter(job, checkpoint)
    _require_free(job.out, [mask_path(case, job.out) for case in cases], job.overwrite)
    _require_one_model(job, checkpoint)
    yield from noted(notes)
    if len(cases) > 1:
        yield from _check(segmenter, cases, control)
    yield Started(stage="predict", total=len(cases))
    classes, written = len(segmenter.provenance.classes), 0
    for case in cases:
        try:
            labels = segment(segmenter, case, control)
        except Stopped:
            break
        if not written:
            write_card(job.out / CARD, checkpoint)
        path = write_mask(case, labels, job.out, classes)
        written += 1
        yield Visited(case=case.name, path=path)
    reason: Reason = "done" if written == len(cases) else "stopped"
    yield Finished(reason=reason, out=job.out, summary={"masks": written, "cases": len(cases)})


def segment(segmenter: Segmenter, case: Case, control: Control) -> Labels:
    """The labels (N, Y, X) of a case; Stopped where the user does not want to wait for them."""
    planes = []
    for plane in segmenter.planes(_read(segmenter, case)):
        planes.append(plane)
        if control.stop:
            raise Stopped
    return segmenter.finish(planes, case)


def _check(segmenter: Segmenter, cases: list[Case], control: Control) -> Iterator[Event]:
    """Read every file once, so that a bad one is found before the first mask is written."""
    yield Started(stage="check", total=len(cases))
    for case in cases:
        _read(segmenter, case)
        read_roi(case)
        yield Visited(case=case.name)
        if control.stop:
            raise Stopped


def _read(segmenter: Segmenter, case: Case) -> Image:
    image = read_image(case.image, case.page)
    channels, wanted = find_recipe(segmenter.provenance.recipe).channels(image), segmenter.provenance.in_channels
    if channels != wanted:
        raise InputError(
            f"has {channels} channels, the model takes {wanted}", case.image, "give images like those of the training"
        )
    return image


def _segmenter(job: Predict, checkpoint: Checkpoint) -> Segmenter:
    """The model, on the job's device."""
    device = pick_device(job.device)
    model = load_model(checkpoint)
    if not isinstance(model, UNet):
        raise InputError("holds a localizer, which finds centres and no masks", checkpoint.path, "fine-tune it first")
    settle(model, device)
    return Segmenter(model, checkpoint.provenance, job.clean, pick_precision(job.precision, device))


def _cases(paths: tuple[Path, ...]) -> tuple[list[Case], tuple[str, ...]]:
    if not paths:
        raise InputError("no image was named", remedy="name a dataset folder or image files")
    cases: list[Case] = []
    notes: list[str] = []
    for path in paths:
        if not path.exists():
            raise InputError("does not exist", path, "name a dataset folder or image files")
        if path.is_dir():
            dataset = read_dataset(path)
            cases += dataset.cases
            notes += dataset.notes
        else:
            cases.append(Case(name=case_name(path), image=path, geometry=read_geometry(path)))
    names = [case.name for case in cases]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two images are both case '{twice}'", remedy="predict them into different folders")
    return cases, tuple(notes)


def _refuse_true_masks(job: Predict, cases: list[Case]) -> None:
    """Also of single images out of a dataset folder."""
    parents = (case.image.parent for case in cases)
    folders = {*job.data, *(parent.parent if parent.name == "images" else parent for parent in parents)}
    if job.out.resolve() in {(folder / "masks").resolve() for folder in folders}:
        raise InputError(
            "is where the true masks are, predictions would be learned from", job.out, "choose another --out"
        )


def _require_one_model(job: Predict, checkpoint: Checkpoint) -> None:
    card = None if job.overwrite else read_card(job.out / CARD)
    if card is not None and card[1] != checkpoint.sha256:
        raise InputError("holds masks of another model", job.out, "choose another --out or add --overwrite")


def _require_free(folder: Path, targets: list[Path], overwrite: bool) -> None:
    taken = [path for path in targets if path.exists()]
    if taken and not overwrite:
        raise InputError(
            f"{len(taken)} of the masks exist already", taken[0], "choose another --out or add --overwrite"
        )
    require_writable(folder)
