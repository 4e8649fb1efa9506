"""A look inside a model: a picture of what its answers come from, and a table of what happens where that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from torch import Tensor

from napari_tlseg.data.files import atomic_path
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.engine.jobs import Explain
from napari_tlseg.engine.running import Stopped, require_free
from napari_tlseg.engine.source import MODEL
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Started, Visited
from napari_tlseg.learn.device import pick_device, settle
from napari_tlseg.learn.explain import Attribution, answers, attribute, perturb
from napari_tlseg.nets.checkpoint import Checkpoint, load, load_model


def explain(job: Explain, control: Control) -> Iterator[Event]:
    """Attribute each answer of the model to the pixels of one plane, then take pixels away and look again."""
    require_free(job.out, job.overwrite)
    if job.out.suffix.lower() != ".png":
        raise InputError("is not the name of a picture", job.out, "let it end in .png")
    checkpoint = load(job.model / MODEL if job.model.is_dir() else job.model)
    if checkpoint.provenance.task == "hydra":
        raise InputError(
            "holds several decoders, none of which is of this image", checkpoint.path, "fine-tune it first"
        )
    if checkpoint.provenance.focus is not None:
        raise InputError("looks at crops, which cannot be explained yet", checkpoint.path, "give a run on whole images")
    if checkpoint.provenance.patch is not None:
        raise InputError("sees volumes, which cannot be explained yet", checkpoint.path, "give a run on planes")
    model, device = load_model(checkpoint), pick_device(job.device)
    settle(model, device)
    image, plane = _square(job, checkpoint)
    yield Noted(text=f"Plane {plane}, as the network sees it: recipe {checkpoint.provenance.recipe}.")
    given = image.to(device)
    asked = answers(model.eval(), given, checkpoint.provenance.classes)
    yield Started(stage="explain", total=len(asked))
    found, rows = list[Attribution](), list[dict[str, float | str | None]]()
    for answer in asked:
        found.append(attribute(answer, given, job.steps))
        rows += perturb(found[-1], given)
        yield Visited(case=answer.name)
        if control.stop:
            raise Stopped
    _write(job.out, image, found)
    sums = [{"answer": each.answer.name, "score above black": each.difference, "missed": each.missed} for each in found]
    yield Finished(reason="done", out=job.out, summary={"explained": rows, "completeness": sums})


def _square(job: Explain, checkpoint: Checkpoint) -> tuple[Tensor, int]:
    """(1, C, S, S) of the plane asked for, or the middle one, and its number."""
    image, facts = read_image(job.data), checkpoint.provenance
    recipe, count = find_recipe(facts.recipe), image.geometry.plane_shape[0]
    if recipe.channels(image) != facts.in_channels:
        reason = f"has {recipe.channels(image)} channels, the model takes {facts.in_channels}"
        raise InputError(reason, job.data, "give an image like those of the training")
    plane = count // 2 if job.plane is None else job.plane
    if not 0 <= plane < count:
        raise InputError(f"has no plane {plane}", job.data, f"give --plane from 0 to {count - 1}")
    (square,) = recipe.squares(image, [plane], facts.size)
    return torch.from_numpy(square.astype(np.float32))[None], plane


def _write(path: Path, image: Tensor, found: list[Attribution]) -> None:
    """Side by side: the image, then for each answer what speaks for it in red and against it in blue."""
    grey = image[0].mean(0).numpy()
    panels = [np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)]
    panels += [_paint(grey, each.values) for each in found]
    with atomic_path(path) as temporary:
        Picture.fromarray(np.concatenate(panels, axis=1)).save(temporary, format="PNG")


def _paint(grey: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The strongest hundredth of the pixels saturates."""
    smooth = cv2.GaussianBlur(values, (0, 0), 1.5)
    strength = np.clip(smooth / max(float(np.percentile(np.abs(smooth), 99)), 1e-12), -1, 1)[..., None]
    colour = np.where(strength > 0, np.array([1.0, 0.1, 0.1]), np.array([0.1, 0.3, 1.0]))
    mixed = (1 - np.abs(strength)) * 0.6 * grey[..., None] + np.abs(strength) * colour
    painted: NDArray[np.uint8] = (mixed.clip(0, 1) * 255).astype(np.uint8)
    return painted
