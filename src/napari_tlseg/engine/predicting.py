"""Images to masks, each on the grid of its image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_tlseg.data.annotations import mask_path, read_roi, verify_mask, write_mask
from napari_tlseg.data.case import Case, Image, Labels
from napari_tlseg.data.crops import keep_crop
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import case_name, read_geometry
from napari_tlseg.data.images import image_of
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.engine.focusing import focused, focusing_of
from napari_tlseg.engine.jobs import Job, Predict
from napari_tlseg.engine.running import Stopped, noted, require_writable
from napari_tlseg.engine.source import MODEL
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Reason, Started, Visited
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.learn.predict import Found, Segmenter, make_segmenter
from napari_tlseg.nets.checkpoint import Checkpoint, load, load_model, read_card, write_card
from napari_tlseg.nets.unet import UNet
from napari_tlseg.options import Format, Unreadable

CARD = "model.json"
"""Beside the masks: what the model is that made them, and which cases it was trained on."""
NO_SEGMENTER = {
    "localize": "a localizer, which finds centres and no masks",
    "classify": "a classifier, which finds labels and no masks",
    "hydra": "an encoder shared by several datasets, with no decoder for these images",
}
"""What a source of each task holds that cannot segment."""


def predict(job: Predict, control: Control) -> Iterator[Event]:
    """Write one mask per case, a whole file or none, and read it back."""
    cases, notes = _cases(job)
    targets = [mask_path(case, job.out, job.format) for case in cases]
    _refuse_true_masks(job, cases)
    _refuse_images(targets, cases)
    checkpoint = load_run(job.model)
    segmenter = load_segmenter(job, checkpoint, job.clean)
    _require_free(job.out, targets, job.overwrite)
    _require_one_model(job, checkpoint)
    yield from noted(notes)
    if len(cases) > 1:
        yield from _check(segmenter, cases, control)
    yield Started(stage="predict", total=len(cases))
    classes, written = len(segmenter.provenance.classes), 0
    for case in cases:
        try:
            labels, found = segment(segmenter, case, control)
        except Stopped:
            break
        if not written:
            write_card(job.out / CARD, checkpoint)
        path = keep_mask(case, labels, job.out, classes, job.format)
        keep_crop(job.out, case, found.crop)
        if found.doubt:
            yield Noted(text=f"{case.name} is doubtful: {found.doubt}.")
        written += 1
        yield Visited(case=case.name, path=path)
    reason: Reason = "done" if written == len(cases) else "stopped"
    yield Finished(reason=reason, out=job.out, summary={"masks": written, "cases": len(cases)})


def load_run(path: Path) -> Checkpoint:
    """The model of a run, named by its folder or its file; InputError where it is a source of another kind."""
    checkpoint = load(path / MODEL if path.is_dir() else path)
    if holds := NO_SEGMENTER.get(checkpoint.provenance.task):
        raise InputError(f"holds {holds}", checkpoint.path, "fine-tune it first")
    return checkpoint


def keep_mask(case: Case, labels: Labels, folder: Path, classes: int, format: Format = "auto") -> Path:
    """Write the labels (N, Y, X) of a case; a file that does not read back the same is removed, and named."""
    path = write_mask(case, labels, folder, classes, format)
    try:
        verify_mask(path, case, labels, classes)
    except InputError:
        path.unlink(missing_ok=True)
        raise
    return path


def segment(segmenter: Segmenter, case: Case, control: Control) -> tuple[Labels, Found]:
    """The cleaned labels (N, Y, X) of a case, and how they were found; Stopped where the user does not want to wait."""
    click = case.geometry.point_to_planes(case.click) if case.click else None
    found = segmenter.find(read_for(segmenter, case), click, control)
    if found is None:
        raise Stopped
    return segmenter.finish(found.planes, case), found


def _check(segmenter: Segmenter, cases: list[Case], control: Control) -> Iterator[Event]:
    """Read every file once, so that a bad one is found before the first mask is written."""
    yield Started(stage="check", total=len(cases))
    for case in cases:
        read_for(segmenter, case)
        read_roi(case)
        yield Visited(case=case.name)
        if control.stop:
            raise Stopped


def read_for(segmenter: Segmenter, case: Case) -> Image:
    """The image of a case; InputError where the model takes no such images."""
    image = image_of(case)
    channels, wanted = find_recipe(segmenter.provenance.recipe).channels(image), segmenter.provenance.in_channels
    if channels != wanted:
        raise InputError(
            f"has {channels} channels, the model takes {wanted}", case.image, "give images like those of the training"
        )
    return image


def load_segmenter(job: Job, checkpoint: Checkpoint, clean: Postprocess | None = None) -> Segmenter:
    """The model, on the job's device."""
    device = pick_device(job.device)
    model = load_model(checkpoint)
    assert isinstance(model, UNet)
    settle(model, device)
    segmenter = make_segmenter(model, checkpoint.provenance, clean, pick_precision(job.precision, device))
    return focused(segmenter, focusing_of(checkpoint, job.device, job.precision))


def _cases(job: Predict) -> tuple[list[Case], tuple[str, ...]]:
    """Those of the job's data that it names, and what is to be said of the folders."""
    if not job.data:
        raise InputError("no image was named", remedy="name a dataset folder or image files")
    found, notes = zip(*(_cases_of(path, job.unreadable) for path in job.data), strict=True)
    cases = [case for some in found for case in some]
    names = [case.name for case in cases]
    if unknown := next((name for name in job.cases if name not in names), None):
        raise InputError(f"there is no case '{unknown}'", job.data[0], f"its cases have names like '{names[0]}'")
    chosen = [case for case in cases if not job.cases or case.name in job.cases]
    if twice := next((case.name for case in chosen if names.count(case.name) > 1), None):
        raise InputError(f"two images are both case '{twice}'", remedy="predict them into different folders")
    return chosen, tuple(note for some in notes for note in some)


def _cases_of(path: Path, unreadable: Unreadable) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    if not path.exists():
        raise InputError("does not exist", path, "name a dataset folder or image files")
    if path.is_dir():
        dataset = read_dataset(path, unreadable=unreadable)
        return dataset.cases, dataset.notes
    return (Case(name=case_name(path), image=path, geometry=read_geometry(path)),), ()


def _refuse_true_masks(job: Predict, cases: list[Case]) -> None:
    """Also of single images out of a dataset folder."""
    parents = (case.image.parent for case in cases)
    folders = {*job.data, *(parent.parent if parent.name == "images" else parent for parent in parents)}
    if job.out.resolve() in {(folder / "masks").resolve() for folder in folders}:
        raise InputError(
            "is where the true masks are, predictions would be learned from", job.out, "choose another --out"
        )


def _refuse_images(targets: list[Path], cases: list[Case]) -> None:
    """Not even with `overwrite`."""
    images = {path.resolve() for case in cases for path in case.files}
    if lost := next((target for target in targets if target.resolve() in images), None):
        raise InputError("is an image, which its mask would replace", lost, "choose another --out")


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
