"""How every job runs: its failures in the user's words, the reading of its cases, the following of its training."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from napari_tlseg.data.annotations import read_roi
from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.files import writable
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.images import image_of
from napari_tlseg.data.recipes import Recipe, find_recipe, pick_recipe, square_size
from napari_tlseg.data.split import Annotation, Parts, split_dataset
from napari_tlseg.engine.trainings import Training
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Evaluated, Event, Finished, Noted, Reason, Started, Stepped, Visited
from napari_tlseg.learn.focus import Focus
from napari_tlseg.learn.locator import Locator
from napari_tlseg.learn.samples import Sample, click_samples, label_samples, mask_samples
from napari_tlseg.learn.volumes import Patch, volume_of

FULL = "the computer's memory is full"


class Stopped(Exception):
    """The user stopped the job before it had anything to keep."""


def guarded(events: Iterator[Event], relief: str) -> Iterator[Event]:
    """The events, with a full memory or a failing disk turned into a sentence; a defect of ours passes as it is.

    `relief` says what to do where the memory is full.
    """
    try:
        yield from events
    except Stopped:
        yield Finished(reason="stopped", out=None)
    except OSError as error:
        where = Path(error.filename) if error.filename else None
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space; what was written before is intact" if full else "look at the file and its folder"
        raise InputError((error.strerror or str(error)).lower(), where, remedy) from error
    except MemoryError as error:
        raise InputError(FULL, remedy=relief) from error
    except RuntimeError as error:
        if "out of memory" in str(error):  # CUDA and MPS
            raise InputError("the memory of the GPU is full", remedy=relief) from error
        if "can't allocate memory" in str(error):
            raise InputError(FULL, remedy=relief) from error
        raise


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a training job works with."""

    dataset: Dataset
    parts: Parts
    recipe: Recipe
    size: int
    channels: int
    seed: int
    held_out: float
    notes: tuple[str, ...]
    focusing: Focusing | None = None
    """Where crops are looked at, and not the whole image."""
    patch: Patch | None = None
    """Where volumes are looked at, and not planes: what of them at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Focusing:
    """How a run looks at crops."""

    focus: Focus
    locator: Locator


def gather(
    job: Training, folder: Path, annotation: Annotation, recipe_name: str | None = None, size: int | None = None
) -> Material:
    """Read the folder, draw the split, settle the recipe and the size; writes nothing.

    `recipe_name` and `size` are those of a source: its encoder learned on images prepared so.
    """
    dataset = read_dataset(folder, job.masks, job.unreadable)
    parts = job.parts(dataset, annotation)
    recipe, why = (find_recipe(job.recipe), "") if job.recipe != "auto" else _settle(dataset, recipe_name)
    first = parts.training[0]
    return Material(
        dataset=dataset,
        parts=parts,
        recipe=recipe,
        size=job.size or size or square_size(recipe, first),
        channels=recipe.channels(image_of(first)),
        seed=job.seed,
        held_out=job.held_out,
        notes=tuple(filter(None, (*dataset.notes, *parts.notes, why))),
    )


def _settle(dataset: Dataset, of_source: str | None) -> tuple[Recipe, str]:
    """The source's recipe, or without one that which fits the data; and a sentence that says why."""
    fitting, why = pick_recipe(dataset)
    if of_source is None:
        return fitting, why
    recipe = find_recipe(of_source)
    instead = "" if recipe == fitting else f" (the images alone would have got {fitting.name})"
    return (
        recipe,
        f"Recipe {recipe.name} ({recipe.says}), as the source was trained with it{instead}; --recipe names another.",
    )


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The prepared planes of each part."""

    training: list[Sample]
    validation: list[Sample]
    held_out: list[Sample]
    """Empty where only the masks' own grid is scored, later and from the files."""
    fingerprints: Mapping[str, str]
    """Of every case that was read, by name."""

    @property
    def seen(self) -> frozenset[str]:
        """Fingerprints of the cases that training and validation look at."""
        return frozenset(self.fingerprints[sample.case] for sample in (*self.training, *self.validation))


def read_samples(
    material: Material, annotation: Annotation, control: Control, *, keep_held_out: bool
) -> Generator[Event, None, Samples]:
    """Read every case the job will need, so that a bad file is found now and not after an hour of training.

    Only then is the split kept: bad input changes nothing.
    """
    parts = (material.parts.training, material.parts.validation, material.parts.held_out)
    yield Started(stage="read", total=sum(map(len, parts)))
    read: list[list[Sample]] = []
    fingerprints: dict[str, str] = {}
    for cases in parts:
        read.append([])
        for case in cases:
            samples = _samples_of(case, material, annotation)
            check_channels(samples, case, material)
            fingerprints[case.name] = fingerprint(case)
            if keep_held_out or cases is not material.parts.held_out:
                read[-1].extend(samples)
            yield Visited(case=case.name)
            if control.stop:
                raise Stopped
    if annotation == "mask" and not any(sample.labels.any() for sample in read[0] if sample.labels is not None):
        raise InputError("all training masks are empty", material.dataset.folder, "paint the target in at least one")
    yield from noted(split_dataset(material.dataset, material.seed, material.held_out).notes)
    return Samples(training=read[0], validation=read[1], held_out=read[2], fingerprints=fingerprints)


def _samples_of(case: Case, material: Material, annotation: Annotation) -> list[Sample]:
    if annotation == "click":
        return click_samples(case, material.recipe, material.size)
    if annotation == "label":
        return label_samples(case, material.recipe, material.size)
    read_roi(case)  # only needed once there are masks to clean, but a bad file is to be found now
    recipe, size, classes, focusing = material.recipe, material.size, len(material.dataset.classes), material.focusing
    if material.patch is not None:
        volume = volume_of(case, recipe, size, classes, material.patch)
        return [volume] if case in material.parts.training else volume.tiles()
    if focusing is None:
        return mask_samples(case, recipe, size, classes)
    if case in material.parts.training:
        return focusing.focus.training(case, recipe, size, classes)
    return focusing.focus.validation(case, recipe, size, classes, focusing.locator)


def check_channels(samples: list[Sample], case: Case, material: Material) -> None:
    """InputError where the image of a case is of another kind than the material's."""
    if samples and samples[0].image.shape[0] != material.channels:
        found = f"has {samples[0].image.shape[0]} channels, the first image has {material.channels}"
        raise InputError(found, case.image, "use images of one kind, or a recipe that makes them grey")


@dataclass(kw_only=True)
class Outcome:
    """How a training ended."""

    reason: Reason = "done"
    steps: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of the weights that were kept, on validation cases; empty as long as none were judged at the last λ."""
    strengths: list[tuple[int, float]] = field(default_factory=list)
    """(first step, λ) of each λ that was used."""


def follow(
    events: Generator[Event, None, None], total: int, control: Control, keep: Callable[[Outcome], object]
) -> Generator[Event, None, Outcome]:
    """Pass a training's events on, keep each model at once that is to be kept, and say how it ended."""
    outcome = Outcome()
    yield Started(stage="train", total=total)
    with closing(events):
        for event in events:
            if isinstance(event, Stepped):
                outcome.steps = event.step
                if event.strength is not None and event.strength not in [λ for _, λ in outcome.strengths[-1:]]:
                    outcome.strengths.append((event.step, event.strength))
                    outcome.scores = {}
            elif isinstance(event, Evaluated) and event.kept:
                outcome.scores = event.scores
                keep(outcome)
            yield event
    outcome.reason = "stopped" if control.stop else "done" if outcome.steps == total else "early"
    return outcome


def require_free(path: Path, overwrite: bool) -> None:
    """Refuse, before any work, a file that exists already or cannot be written."""
    if path.is_dir():
        raise InputError("is a folder", path, "name a file")
    if path.exists() and not overwrite:
        raise InputError("exists already", path, "choose another name or add --overwrite")
    require_writable(path.parent)


def require_writable(folder: Path) -> None:
    """Refuse, before any work, a folder that cannot be written to, or be made where it does not exist."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not writable(nearest):
        raise InputError("cannot be written to", folder, "choose a place you may write to")


def noted(notes: Iterable[str]) -> Iterator[Noted]:
    """One event per sentence."""
    return (Noted(text=text) for text in notes)
