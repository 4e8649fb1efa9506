"""What a teacher says of images without masks: written as files, and read as samples to learn from."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_tlseg.data.annotations import mask_path, read_mask
from napari_tlseg.data.case import Case, Labels
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.pseudo import TABLE, UNSURE, Pseudo, read_pseudo, write_pseudo
from napari_tlseg.data.split import assign, read_split
from napari_tlseg.engine.predicting import CARD, keep_mask, read_for
from napari_tlseg.engine.running import Material, Stopped, check_channels
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Started, Visited
from napari_tlseg.learn.predict import Segmenter, certainty, choose
from napari_tlseg.learn.samples import IGNORED, Sample, mask_samples
from napari_tlseg.learn.volumes import volume_of
from napari_tlseg.nets.checkpoint import Checkpoint, write_card
from napari_tlseg.studies.teaching import Student


def unlabelled_cases(job: Student) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """The images to be labelled, and what is to be said of them. None that the data holds with a mask, or holds out."""
    dataset = read_dataset(job.data, job.masks, job.unreadable)
    if job.unlabelled.resolve() == job.data.resolve():
        parts = assign(dataset, job.seed, job.held_out, known=read_split(job.data))
        found = [case for case in dataset if case.mask is None]
        cases = [case for case in found if parts[case.name] == "training"]
        left_out, why = len(found) - len(cases), "kept for validation or held out"
    else:
        others = read_dataset(job.unlabelled, unreadable=job.unreadable)
        known = {fingerprint(case) for case in dataset}
        cases = [replace(case, mask=None, painted=None) for case in others if fingerprint(case) not in known]
        left_out, why = len(others) - len(cases), f"also in {job.data.name}"
    if not cases:
        raise InputError("holds no image to learn from without a mask", job.unlabelled, "add images to it")
    return tuple(cases), (f"{left_out} images without a mask are {why}: left out.",) if left_out else ()


def label(
    job: Student, teacher: Checkpoint, segmenter: Segmenter, cases: Sequence[Case], folder: Path, control: Control
) -> Generator[Event, None, None]:
    """Write what a teacher, without noise, says of every case, and last the table; what there was without one goes."""
    shutil.rmtree(folder, ignore_errors=True)
    yield Started(stage="pseudo-label", total=len(cases))
    classes, found = len(segmenter.provenance.classes), dict[str, Pseudo]()
    for case in cases:
        labels, unsure, confidence = guess(segmenter, case, job.threshold, control)
        path = keep_mask(case, labels, folder, classes)
        keep_mask(case, unsure, folder / UNSURE, 2)
        found[case.key] = Pseudo(confidence=confidence)
        yield Visited(case=case.name, path=path)
    write_card(folder / CARD, teacher)
    write_pseudo(folder, found)


def guess(segmenter: Segmenter, case: Case, threshold: float, control: Control) -> tuple[Labels, Labels, float]:
    """The cleaned labels (N, Y, X) of a case, where they are not to be learned, and the confidence in them.

    Not learned: what is less sure than the threshold, and what the cleaning has changed. The confidence is the mean
    probability of the pixels that are marked, or where there are none of the background.
    """
    planes: list[Labels] = []
    doubtful, sums, counts = [], np.zeros(2), np.zeros(2)
    for chances in segmenter.chances(read_for(segmenter, case)):
        chosen, sure = choose(chances), certainty(chances)
        planes.append(chosen)
        doubtful.append(sure < threshold)
        sums += np.bincount(chosen.ravel() > 0, sure.ravel(), 2)
        counts += np.bincount(chosen.ravel() > 0, minlength=2)
        if control.stop:
            raise Stopped
    labels = segmenter.finish(planes, case)
    kind = int(counts[1] > 0)
    unsure = (np.stack(doubtful) | (labels != np.stack(planes))).astype(np.uint8)
    return labels, unsure, float(sums[kind] / counts[kind])


@dataclass(kw_only=True)
class Lesson:
    """What a student learns beside the masks."""

    samples: list[Sample] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)
    accepted: int = 0
    rejected: int = 0
    images: int = 0
    """Without those that were rejected."""

    @property
    def facts(self) -> dict[str, float]:
        """For the summary; `pixels`: the share that is learned."""
        known = [np.mean(sample.labels != IGNORED) for sample in self.samples if sample.labels is not None]
        counts = {name: getattr(self, name) for name in ("images", "accepted", "rejected")}
        return {**counts, "pixels": float(np.mean(known))}


def read_lesson(
    cases: Sequence[Case], folder: Path, material: Material, control: Control
) -> Generator[Event, None, Lesson]:
    """The pseudo-labels in a folder as samples: none that were rejected, and all pixels of those that were accepted.

    Images that came later have none.
    """
    table = read_pseudo(folder)
    lesson = Lesson(rejected=sum(known.accepted is False for known in table.values()))
    yield Started(stage="read", total=len(cases))
    for case in cases:
        accepted = table[case.key].accepted if case.key in table else False
        if accepted is not False:
            samples = list(_samples(case, folder, material, whole=accepted is True))
            check_channels(samples, case, material)
            lesson.samples += samples
            lesson.fingerprints.add(fingerprint(case))
            lesson.accepted += accepted is True
            lesson.images += 1
        yield Visited(case=case.name)
        if control.stop:
            raise Stopped
    if not lesson.samples:
        raise InputError("all pseudo-labels are rejected", folder / TABLE, "accept some, or take the answers back")
    return lesson


def _samples(case: Case, folder: Path, material: Material, whole: bool) -> Iterator[Sample]:
    labelled, classes = replace(case, mask=mask_path(case, folder)), len(material.dataset.classes)
    unsure = read_mask(case, 2, mask_path(case, folder / UNSURE))
    if material.patch is not None:
        volume = volume_of(labelled, material.recipe, material.size, classes, material.patch)
        if not whole:
            volume.painted[np.stack([volume.frame.labels(plane) for plane in unsure]) > 0] = IGNORED
        yield volume
        return
    samples = mask_samples(labelled, material.recipe, material.size, classes)
    for sample, plane in zip(samples, unsure, strict=True):
        assert sample.labels is not None
        ignored = sample.frame.labels(plane) > 0
        yield sample if whole else replace(sample, labels=np.where(ignored, np.uint8(IGNORED), sample.labels))
