"""What a run that looks at crops needs beside its network: how they are cut, and a localizer that says where."""

from __future__ import annotations

from dataclasses import replace

from napari_tlseg.data.images import image_of
from napari_tlseg.data.run import RunFolder
from napari_tlseg.engine.locating import load_locator
from napari_tlseg.engine.running import Focusing, Material
from napari_tlseg.engine.trainings import Anchored
from napari_tlseg.errors import InputError
from napari_tlseg.learn.focus import Focus
from napari_tlseg.learn.focused import FocusedSegmenter
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.nets.checkpoint import Checkpoint, save
from napari_tlseg.options import Precision

SIZE = 96
"""Side of the square that the network sees of a crop, pixels, where the image has as many to show."""


def focus_on(job: Anchored, material: Material) -> Material:
    """The material, to be looked at in crops if the job says so: `--focus` names the localizer."""
    if job.focus == "none":
        return material
    locator = load_locator(job.focus, job.device, job.precision)
    cases, classes = material.parts.training, len(material.dataset.classes)
    focus = Focus.learn(cases, classes, job.crop, locator.reach)
    if focus is None:
        raise InputError("all training masks are empty", material.dataset.folder, "paint the target in at least one")
    first = cases[0]
    locator.square(image_of(first), focus.plane(first))  # whether it takes such images
    pixels = round(focus.pixels(first.geometry.plane_shape[1:]))
    size = job.size or min(SIZE, -(-pixels // 32) * 32)
    note = f"Focus: crops of {pixels} px about the target, shown to the network at {size} px."
    if focus.side >= 1:
        note = f"{note} The target fills the image, so that --focus none would do as well."
    focusing = Focusing(focus=focus, locator=locator)
    return replace(material, size=size, focusing=focusing, notes=(*material.notes, note))


def focused(segmenter: Segmenter, focusing: Focusing | None) -> Segmenter:
    """The segmenter, which looks at crops where the run does."""
    if focusing is None:
        return segmenter
    facts = segmenter.model, segmenter.provenance, segmenter.clean, segmenter.precision
    return FocusedSegmenter(*facts, focus=focusing.focus, locator=focusing.locator)


def focusing_of(checkpoint: Checkpoint, device: str, precision: Precision) -> Focusing | None:
    """How the model of a run looks at crops, from its file and the localizer beside it; None for whole images."""
    if checkpoint.provenance.focus is None:
        return None
    path = RunFolder(checkpoint.path.parent).localizer
    if not path.exists():
        reason = "looks where a localizer says, and there is none beside it"
        raise InputError(reason, checkpoint.path, f"name the run folder, with its {path.name}")
    focus = Focus.from_dict(checkpoint.provenance.focus)
    return Focusing(focus=focus, locator=load_locator(path, device, precision))


def keep_localizer(focusing: Focusing | None, run: RunFolder) -> dict[str, str]:
    """A copy of the localizer in the run folder, so that the run alone can predict; its SHA-256 for the summary."""
    if focusing is None:
        return {}
    return {"localizer_sha256": save(run.localizer, focusing.locator.model, focusing.locator.provenance)}
