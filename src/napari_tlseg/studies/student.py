"""Noisy student: a teacher labels images without masks, a student learns from them and is the next teacher.

Each round is a run folder of its own, with the pseudo-labels that its model gives. Round 0 is the first teacher, and
the run folder of the whole is that of its last round.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_tlseg.data.annotations import mask_path
from napari_tlseg.data.case import Case
from napari_tlseg.data.files import atomic_path
from napari_tlseg.data.pseudo import FOLDER, ROUNDS, TABLE
from napari_tlseg.data.run import RunFolder, jsonable, read_json, read_summary
from napari_tlseg.engine.finetuning import Keeper, conclude, make_objective, recorded, train
from napari_tlseg.engine.predicting import CARD, load_run, load_segmenter
from napari_tlseg.engine.running import Outcome, Samples, Stopped, noted, read_samples
from napari_tlseg.engine.settling import Setting, settle_job
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Reason
from napari_tlseg.learn.noisy import NoisyStudent, fewer, noisy
from napari_tlseg.nets.checkpoint import read_provenance
from napari_tlseg.studies.pseudo import Lesson, label, read_lesson, unlabelled_cases
from napari_tlseg.studies.teaching import PLACES, Student

FREE = ("out", "overwrite", "device", "rounds")
"""What may differ when it goes on another day."""
TAKEN = ("model.safetensors", "events.jsonl", "scores.csv", "masks", "overlays")
"""What the run folder takes over from its last round."""


def student(job: Student, control: Control) -> Iterator[Event]:
    """So many rounds as the job says; those that are whole already are not done again."""
    goes_on = _goes_on(job)
    if not goes_on:
        RunFolder.check(job.out, job.overwrite)
    cases, notes = unlabelled_cases(job)
    first = None if goes_on else _settle(job, 0)
    run = RunFolder(job.out) if goes_on else RunFolder.create(job.out, job.overwrite)
    try:
        run.write_job({"job": "student", **asdict(job)})
        yield from noted(notes)
        yield from _rounds(job, first, run, cases, control)
    except BaseException:
        if not run.model.exists():
            run.discard()
        raise


def _goes_on(job: Student) -> bool:
    """Whether the folder holds the same study, of no more rounds; InputError where a source would be replaced."""
    file = job.out / "job.json"
    if job.overwrite:
        inside = [path for path in (job.source, job.teacher) if isinstance(path, Path) and _within(path, job.out)]
        if inside:
            raise InputError("would be replaced, and is needed in every round", inside[0], "choose another --out")
        return False
    if not file.exists() or (known := read_json(file)).get("job") != "student":
        return False
    asked = jsonable(asdict(job))
    if different := [key for key in asked if key not in FREE and _told(known, key) != _told(asked, key)]:
        reason = f"holds a student with another {', '.join(different)}"
        raise InputError(reason, job.out, "choose another --out or add --overwrite")
    rounds = sum(_is_whole(path) for path in (job.out / ROUNDS).glob("*"))
    if rounds - 1 > job.rounds:
        raise InputError(f"holds {rounds - 1} rounds already", job.out, f"give --rounds {rounds - 1} or more")
    return True


def _told(record: Mapping[str, Any], key: str) -> Any:
    """An option; of a place its name, as folders are moved together, and named from here or there."""
    value = record.get(key)
    return Path(value).name if key in PLACES and value is not None else value


def _within(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)


def _rounds(
    job: Student, first: Setting | None, run: RunFolder, cases: Sequence[Case], control: Control
) -> Iterator[Event]:
    rows: list[dict[str, Any]] = []
    try:
        for number in range(job.rounds + 1):
            folder = _folder(run.path, number)
            if not _is_whole(folder):
                setting = first or _settle(job, number)
                yield from _round(job, number, setting, RunFolder.create(folder, overwrite=True), cases, control)
                del setting
            first = None  # a network less in memory
            rows.append(_row(number, read_summary(folder)))
            if not _is_whole(_folder(run.path, number + 1)):
                _take_over(run, folder, rows)
            if not _is_whole(folder):
                break
            if not (folder / FOLDER / TABLE).exists():
                teacher = load_run(folder)
                yield from label(job, teacher, load_segmenter(job, teacher), cases, folder / FOLDER, control)
        else:
            if job.unlabelled.resolve() == job.data.resolve():
                _show(run, folder / FOLDER, cases)
    except Stopped:
        if not rows:
            raise
    summary = read_summary(run.path)
    reason: Reason = "stopped" if control.stop else summary["reason"]
    yield Finished(reason=reason, out=run.path, summary={**summary, "lambda": float(summary["lambda"])})


def _folder(run: Path, number: int) -> Path:
    return run / ROUNDS / str(number)


def _is_whole(folder: Path) -> bool:
    """Whether a round was trained to its end; one that was stopped is done anew when it goes on."""
    return (folder / "summary.json").exists() and read_summary(folder)["reason"] != "stopped"


def _settle(job: Student, number: int) -> Setting:
    """What is known of a round before the first image is prepared; that of a given teacher has its weights."""
    teacher = load_run(job.teacher) if job.teacher is not None and number == 0 else None
    if teacher is not None and teacher.provenance.focus is not None:
        raise InputError("looks at crops, a teacher has to see whole images", teacher.path, "train one without --focus")
    return settle_job(job, job.strength, teacher)


def _round(
    job: Student, number: int, setting: Setting, run: RunFolder, cases: Sequence[Case], control: Control
) -> Iterator[Event]:
    """All that a run of its own says, but for its end."""
    events = _events(job, number, setting, run, cases, control)
    for event in recorded(run, {"job": "student", "round": number, **asdict(job)}, events):
        if not isinstance(event, Finished):
            yield event


def _events(
    job: Student, number: int, setting: Setting, run: RunFolder, cases: Sequence[Case], control: Control
) -> Generator[Event, None, None]:
    began = time.monotonic()
    yield from noted(setting.notes)
    samples = yield from read_samples(setting.material, "mask", control, keep_held_out=False)
    if number == 0:
        keep = Keeper(setting, samples, run)
        if setting.start is None:
            yield from train(job, keep, make_objective(job, setting, samples), control, began)
        else:
            outcome = Outcome(strengths=[(0, setting.start.provenance.strength)])
            yield from conclude(keep, outcome, control, began, {})
        return
    teacher = run.path.parent / str(number - 1)
    lesson = yield from read_lesson(cases, teacher / FOLDER, setting.material, control)
    taught = frozenset(lesson.fingerprints).union(read_provenance(RunFolder(teacher).model).seen)
    keep = Keeper(replace(setting, taught=taught), samples, run)
    yield Noted(text=_lesson(number, lesson, samples))
    yield from train(job, keep, _objective(job, setting, samples, lesson), control, began, {"pseudo": lesson.facts})


def _objective(job: Student, setting: Setting, samples: Samples, lesson: Lesson) -> NoisyStudent:
    """The masks and the pseudo-labels, under noise; that in the network goes with its training mode."""
    material = setting.material
    noise, step = noisy(material.recipe, material.dataset.channels), job.per_step(material.patch is not None)
    batch = fewer(job.unlabelled_batch or step, len(samples.training), len(lesson.samples), step)
    setting.model.dropout.p = job.dropout
    labelled = make_objective(job, setting, samples, noise)
    return NoisyStudent(labelled, lesson.samples, noise, batch, job.unlabelled_weight)


def _lesson(number: int, lesson: Lesson, samples: Samples) -> str:
    facts = lesson.facts
    said = f"{lesson.accepted} accepted, {lesson.rejected} rejected, {facts['pixels']:.0%} of their pixels are learned"
    masks = len({sample.case for sample in samples.training})
    return f"Round {number}: the student learns from {masks} masks and {lesson.images} pseudo-labels ({said})."


def _row(number: int, summary: dict[str, Any]) -> dict[str, Any]:
    """Of a round, for the summary of the whole."""
    validation = summary["validation"]
    scores = {f"validation_{name}": validation[name] for name in ("dice_mean", "dice_sd", "scored")}
    return {"round": number, "pseudo": summary.get("pseudo"), **scores, "seconds": summary["seconds"]}


def _take_over(run: RunFolder, folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The run folder becomes that of a round: masks of an earlier model go, the summary comes last."""
    for place in (run.masks, run.overlays):
        shutil.rmtree(place, ignore_errors=True)
    for path in (path for name in TAKEN for path in (folder / name, *(folder / name).glob("*")) if path.is_file()):
        _copy(path, run.path / path.relative_to(folder))
    run.write_summary({**read_summary(folder), "rounds": rows})


def _show(run: RunFolder, pseudo: Path, cases: Sequence[Case]) -> None:
    """Pseudo-labels of the data's own images are what `predict` would write beside the run's other masks."""
    for path in (pseudo / CARD, *(mask_path(case, pseudo) for case in cases)):
        if path.exists():  # not of an image that came later
            _copy(path, run.masks / path.name)


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as path:
        shutil.copyfile(source, path)
