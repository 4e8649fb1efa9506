"""What a classifier says of images without labels, to be learned from: the teacher of a noisy student."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.images import image_of
from napari_tlseg.data.labels import Ontology, read_ontology
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.split import read_split
from napari_tlseg.data.tables import write_rows
from napari_tlseg.engine.pool import Pool
from napari_tlseg.engine.running import Material, Stopped, check_channels
from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Noted, Started, Visited
from napari_tlseg.learn.device import autocast, pick_device, pick_precision, settle
from napari_tlseg.learn.noisy import pseudo_tags
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.checkpoint import Checkpoint, load, load_model
from napari_tlseg.nets.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """Planes with pseudo-labels, and the fingerprints of all that went into these."""

    samples: list[Sample]
    seen: frozenset[str]


def tag(job: Pretrain, pool: Pool, control: Control) -> Generator[Event, None, Tagged]:
    """Ask the teacher, without noise, of every plane; its answers also go into a table beside the result.

    What follows from an answer by the ontology is filled in; a plane whose answers contradict each other is left out.
    """
    assert job.teacher is not None and job.unlabelled is not None
    teacher = _load(job, pool)
    known, material = _known(pool.materials[0]), pool.materials[0]
    cases = [case for case in read_dataset(job.unlabelled, unreadable=job.unreadable) if fingerprint(case) not in known]
    if not cases:
        raise InputError("holds no image to learn from without labels", job.unlabelled, "add images to it")
    ask, ontology = _Teacher(teacher, job), read_ontology(material.dataset.folder)
    samples, rows, seen, left_out = list[Sample](), list[list[object]](), set(teacher.provenance.seen), 0
    yield Started(stage="pseudo-label", total=len(cases))
    for case in cases:
        found = pseudo_tags(ask(case), pool.exclusive)
        told = [_complete(ontology, dict(zip(pool.labels, tags, strict=True))) for tags in found.tolist()]
        mine = [sample for sample in _samples(case, pool, told) if sample.tags]
        check_channels(mine, case, material)
        samples += mine
        left_out += len(told) - len(mine)
        planes = [case.key] if len(told) == 1 else [f"{case.key}#{plane}" for plane in range(len(told))]
        rows += [[key, *map(int, tags.values())] for key, tags in zip(planes, told, strict=True) if tags]
        seen.add(fingerprint(case))
        yield Visited(case=case.name)
        if control.stop:
            raise Stopped
    if not samples:
        raise InputError("says only what ontology.toml excludes", job.teacher, "train it longer, or correct that file")
    table = job.out.with_suffix(".pseudo.csv")
    write_rows(table, ("image", *pool.labels), rows)
    said = f"; {left_out} contradict ontology.toml and are left out" if left_out else ""
    yield Noted(text=f"The teacher labelled {len(samples)} planes, as {table.name} says{said}.")
    return Tagged(samples=samples, seen=frozenset(seen))


def _known(material: Material) -> set[str]:
    """Fingerprints of the data's images that have labels, or are kept for validation or held out."""
    parts, split = material.parts, read_split(material.dataset.folder)
    labelled = {case.name for cases in (parts.training, parts.validation, parts.held_out) for case in cases}
    open_ = {name for name, part in split.items() if part == "training"} - labelled
    return {fingerprint(case) for case in material.dataset if case.name not in open_}


class _Teacher:
    """A classifier, in evaluation mode."""

    def __init__(self, checkpoint: Checkpoint, job: Pretrain) -> None:
        model = load_model(checkpoint)
        assert isinstance(model, Classifier)
        self._model, self._device, self._facts = model, pick_device(job.device), checkpoint.provenance
        self._precision = pick_precision(job.precision, self._device)
        settle(model, self._device)

    def __call__(self, case: Case) -> NDArray[np.float32]:
        """(N, L): the probability of each label in each plane."""
        image = image_of(case)
        squares = find_recipe(self._facts.recipe).squares(image, range(case.geometry.plane_shape[0]), self._facts.size)
        found = []
        for square in squares:
            batch = torch.from_numpy(square[None]).to(self._device, memory_format=torch.channels_last)
            with torch.inference_mode(), autocast(self._device, self._precision):
                found.append(torch.sigmoid(self._model(batch)[:, 1].float()).cpu().numpy())
        return np.concatenate(found)


def _load(job: Pretrain, pool: Pool) -> Checkpoint:
    """InputError where the teacher is none of these labels and images."""
    assert job.teacher is not None
    checkpoint = load(job.teacher)
    facts = checkpoint.provenance
    if facts.task != "classify":
        raise InputError("knows no labels of images", job.teacher, "pretrain it with --task classify")
    if facts.classes != pool.labels or facts.in_channels != pool.channels:
        own = f"the labels {', '.join(facts.classes)} in images of {facts.in_channels} channels"
        asked = f"{', '.join(pool.labels)} in images of {pool.channels}"
        raise InputError(f"knows {own}, asked for are {asked}", job.teacher, "give another --teacher")
    return checkpoint


def _complete(ontology: Ontology, tags: Mapping[str, float]) -> dict[str, float]:
    """With the parents of what there is; empty where that cannot be."""
    try:
        known = ontology.complete({label: 1.0 if there else math.nan for label, there in tags.items()})
    except ValueError:
        return {}
    return {label: 0.0 if math.isnan(there) else there for label, there in known.items()}


def _samples(case: Case, pool: Pool, told: Sequence[Mapping[str, float]]) -> list[Sample]:
    """The planes of a case, prepared as the student sees them."""
    image = image_of(case)
    frame, squares = pool.recipe.frame(image, pool.size), pool.recipe.squares(image, range(len(told)), pool.size)
    return [
        Sample(case=case.name, image=square.astype(np.float16), frame=frame, tags=tuple(tags.values()))
        for square, tags in zip(squares, told, strict=True)
    ]
