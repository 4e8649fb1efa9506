"""A look inside a model: a map of what its answers come from, and a table of what happens where that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from torch import Tensor

from napari_tlseg.data.case import Case, Image
from napari_tlseg.data.files import atomic_path
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import case_name, read_geometry
from napari_tlseg.data.images import image_of
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.overlay import AGAINST, FOR
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.engine.jobs import Explain
from napari_tlseg.engine.predicting import load_segmenter
from napari_tlseg.engine.running import Stopped, require_free
from napari_tlseg.engine.source import MODEL
from napari_tlseg.errors import InputError
from napari_tlseg.events import Attributed, Control, Event, Finished, Noted, Started, Visited
from napari_tlseg.learn.device import pick_device, settle
from napari_tlseg.learn.explain import Answer, Attribution, answers, attribute, perturb
from napari_tlseg.nets.checkpoint import Checkpoint, load, load_model


def explain(job: Explain, control: Control) -> Iterator[Event]:
    """Attribute each answer of the model to the pixels of one plane, then take pixels away and look again."""
    _require_picture(job)
    checkpoint = _load(job.model)
    facts = checkpoint.provenance
    model, device = load_model(checkpoint), pick_device(job.device)
    settle(model, device)
    view = _look(job, checkpoint, control)
    yield Noted(text=f"Plane {view.plane}, as the network sees it: recipe {facts.recipe}.")
    given = view.square.to(device)
    asked = answers(model.eval(), given, facts.classes)
    yield Started(stage="explain", total=len(asked))
    found, rows = list[Attribution](), list[dict[str, float | str | None]]()
    for answer in asked:
        found.append(attribute(_heeding(answer, control), given, job.steps))
        rows += (changes := tuple(perturb(found[-1], given)))
        (values,) = view.frame.native(found[-1].values[None])
        yield Attributed(
            case=view.case.name,
            plane=view.plane,
            answer=answer.name,
            values=values,
            found=answer.region is None or bool(answer.region(given).any()),
            changes=changes,
        )
        yield Visited(case=answer.name)
        if control.stop:
            raise Stopped
    if job.out is not None:
        _write(job.out, view.square, found)
    sums = [{"answer": each.answer.name, "score above black": each.difference, "missed": each.missed} for each in found]
    yield Finished(reason="done", out=job.out, summary={"explained": rows, "completeness": sums})


def _require_picture(job: Explain) -> None:
    if job.out is not None:
        require_free(job.out, job.overwrite)
        if job.out.suffix.lower() != ".png":
            raise InputError("is not the name of a picture", job.out, "let it end in .png")


def _load(path: Path) -> Checkpoint:
    checkpoint = load(path / MODEL if path.is_dir() else path)
    facts = checkpoint.provenance
    refusals = (
        (facts.task == "hydra", "holds several decoders, none of which is of this image", "fine-tune it first"),
        (facts.patch is not None, "sees volumes, which cannot be explained yet", "give a run on planes"),
    )
    for holds, reason, remedy in refusals:
        if holds:
            raise InputError(reason, checkpoint.path, remedy)
    return checkpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """The plane that is looked at."""

    case: Case
    plane: int
    square: Tensor
    """(1, C, S, S), as the network sees it."""
    frame: Letterbox


def _look(job: Explain, checkpoint: Checkpoint, control: Control) -> _View:
    """At the plane asked for, or the middle one; of a model that looks at crops, at the crop that it would look at."""
    case, facts = _case(job), checkpoint.provenance
    image = image_of(case)
    recipe, count = find_recipe(facts.recipe), image.geometry.plane_shape[0]
    if recipe.channels(image) != facts.in_channels:
        reason = f"has {recipe.channels(image)} channels, the model takes {facts.in_channels}"
        raise InputError(reason, case.image, "give an image like those of the training")
    plane = count // 2 if job.plane is None else job.plane
    if not 0 <= plane < count:
        raise InputError(f"has no plane {plane}", case.image, f"give --plane from 0 to {count - 1}")
    if facts.focus is None:
        frame = recipe.frame(image, facts.size)
        (square,) = recipe.squares(image, [plane], facts.size)
    else:
        frame = _crop(job, checkpoint, case, image, control)
        (native,) = recipe.natives(image, [plane])
        square = recipe.crop(native, frame)
    return _View(case=case, plane=plane, square=torch.from_numpy(square)[None], frame=frame)


def _crop(job: Explain, checkpoint: Checkpoint, case: Case, image: Image, control: Control) -> Letterbox:
    """Where the model finds the target: about the click, or else where its localizer says."""
    segmenter = load_segmenter(job, checkpoint)
    click = case.geometry.point_to_planes(case.click) if case.click else None
    found = segmenter.find(image, click, control)
    if found is None:
        raise Stopped
    assert found.crop is not None
    return Letterbox(image.geometry.plane_shape[1:], checkpoint.provenance.size, found.crop.box)


def _case(job: Explain) -> Case:
    if job.case is None:
        return Case(name=case_name(job.data), image=job.data, geometry=read_geometry(job.data))
    dataset = read_dataset(job.data, unreadable=job.unreadable)
    try:
        return dataset[job.case]
    except KeyError:
        known = f"its cases have names like '{dataset.cases[0].name}'"
        raise InputError(f"there is no case '{job.case}'", job.data, known) from None


def _heeding(answer: Answer, control: Control) -> Answer:
    """The answer, which is no longer given once the user wants to stop: an attribution may take a minute."""

    def score(images: Tensor) -> Tensor:
        if control.stop:
            raise Stopped
        return answer.score(images)

    return replace(answer, score=score)


def _write(path: Path, image: Tensor, found: list[Attribution]) -> None:
    """Side by side: the image, then for each answer what speaks for it and against it, in their colours."""
    grey = image[0].mean(0).numpy()
    panels = [np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)]
    panels += [_paint(grey, each.values) for each in found]
    with atomic_path(path) as temporary:
        Picture.fromarray(np.concatenate(panels, axis=1)).save(temporary, format="PNG")


def _paint(grey: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The strongest hundredth of the pixels saturates."""
    smooth = cv2.GaussianBlur(values, (0, 0), 1.5)
    strength = np.clip(smooth / max(float(np.percentile(np.abs(smooth), 99)), 1e-12), -1, 1)[..., None]
    colour = np.where(strength > 0, np.array(FOR), np.array(AGAINST)) / 255
    mixed = (1 - np.abs(strength)) * 0.6 * grey[..., None] + np.abs(strength) * colour
    painted: NDArray[np.uint8] = (mixed.clip(0, 1) * 255).astype(np.uint8)
    return painted
