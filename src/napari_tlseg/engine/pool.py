"""One dataset, or several prepared alike, so that one encoder can learn from all of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_tlseg.data.case import Case
from napari_tlseg.data.labels import read_ontology
from napari_tlseg.data.recipes import PLAIN, Recipe
from napari_tlseg.data.split import Annotation
from napari_tlseg.engine.patching import patch_for
from napari_tlseg.engine.running import Material, Samples, gather, read_samples
from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event
from napari_tlseg.learn.samples import Sample
from napari_tlseg.learn.volumes import Patch


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What a pretraining works with: of each dataset its material, all of one recipe, size and patch."""

    materials: tuple[Material, ...]
    annotation: Annotation
    names: tuple[str, ...]
    """Of the datasets: of their folders, numbered where two are called the same."""
    channels: int
    """That the encoder takes; grey images among coloured ones are repeated."""
    notes: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        return self.materials[0].recipe

    @property
    def size(self) -> int:
        return self.materials[0].size

    @property
    def patch(self) -> Patch | None:
        return self.materials[0].patch

    @property
    def tasks(self) -> dict[str, tuple[str, ...]]:
        """The classes of each dataset, by its name."""
        return {name: found.dataset.classes for name, found in zip(self.names, self.materials, strict=True)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Of whole images; those of the masks' classes where no others are there."""
        dataset = self.materials[0].dataset
        return dataset.labels if self.annotation == "label" else dataset.classes[1:]

    @property
    def exclusive(self) -> list[list[int]]:
        """Groups of labels, by place, of which an image has one at most."""
        return read_ontology(self.materials[0].dataset.folder).groups(self.labels)

    @property
    def training(self) -> list[Case]:
        return [case for material in self.materials for case in material.parts.training]

    @property
    def validation(self) -> list[Case]:
        return [case for material in self.materials for case in material.parts.validation]

    @property
    def held_out(self) -> list[Case]:
        return [case for material in self.materials for case in material.parts.held_out]


def gather_pool(job: Pretrain, annotation: Annotation) -> Pool:
    """Read the folders, draw the splits, settle what all share; writes nothing.

    Without `--recipe` that is the one that fits them all, or else plain; without `--size` the side of the one with most
    to show.
    """
    _refuse_twice(job.data)
    materials = [gather(job, folder, annotation) for folder in job.data]
    shared: tuple[str, ...] = ()
    if len(materials) > 1:
        recipes = {material.recipe for material in materials}
        recipe = recipes.pop() if len(recipes) == 1 else PLAIN
        materials = [gather(replace(job, recipe=recipe.name), folder, annotation) for folder in job.data]
        size = max(material.size for material in materials)
        materials = [replace(material, size=size) for material in materials]
        shared = (f"All share recipe {recipe.name} ({recipe.says}) and images of {size} pixels.",)
    channels, repeated = _channels(materials)
    patch, seen = patch_for(job.encoder, materials)
    return Pool(
        materials=tuple(replace(material, patch=patch) for material in materials),
        annotation=annotation,
        names=_names(job.data),
        channels=channels,
        notes=(*(note for material in materials for note in material.notes), *shared, *repeated, *seen),
    )


def read_pool(pool: Pool, control: Control) -> Generator[Event, None, list[Samples]]:
    """The samples of each dataset, marked as its own, in the channels that all share."""
    read = []
    for task, material in enumerate(pool.materials):
        samples = yield from read_samples(material, pool.annotation, control, keep_held_out=True)
        parts = samples.training, samples.validation, samples.held_out
        training, validation, held_out = ([*_alike(part, task, pool.channels)] for part in parts)
        read.append(replace(samples, training=training, validation=validation, held_out=held_out))
    return read


def _alike(samples: list[Sample], task: int, channels: int) -> Iterator[Sample]:
    for sample in samples:
        shape = (channels, *sample.image.shape[1:])
        yield replace(sample, task=task, image=np.broadcast_to(sample.image, shape))


def _channels(materials: Sequence[Material]) -> tuple[int, tuple[str, ...]]:
    """The channels that all share, and a sentence where some are repeated for it."""
    counts = {material.channels for material in materials}
    most = max(counts)
    if not counts <= {1, most}:
        folder = next(material.dataset.folder for material in materials if material.channels < most)
        reason = f"has images of {min(counts - {1})} channels, another dataset of {most}"
        raise InputError(reason, folder, "choose a --recipe that makes them grey, or datasets of one kind")
    return most, () if counts == {most} else (f"Grey images are repeated over {most} channels, as the others have.",)


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    names = [folder.resolve().name for folder in folders]
    unique = len(set(names)) == len(names)
    return tuple(names if unique else [f"{number} {name}" for number, name in enumerate(names, 1)])


def _refuse_twice(folders: Sequence[Path]) -> None:
    places = [folder.resolve() for folder in folders]
    if twice := [folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1]:
        raise InputError("is named twice", twice[0], "name each dataset once")
