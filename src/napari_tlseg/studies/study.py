"""What every study begins with: its cases, its folder, its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.run import read_json, to_json
from napari_tlseg.data.split import split_dataset
from napari_tlseg.engine.running import require_writable
from napari_tlseg.errors import InputError
from napari_tlseg.studies.jobs import Study, Trial
from napari_tlseg.studies.recommend import Dice
from napari_tlseg.studies.trials import Result

TRIALS = "trials"
"""The folder of the trials' files."""
SCORES = "scores.csv"
"""A row per test case and arm."""


def pool(job: Study) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """The cases that a study may learn from and score, those that are not held out; and what is to be said of them."""
    dataset = read_dataset(job.data, job.masks, job.unreadable)
    parts = job.parts(dataset, "mask")
    cases = (*parts.training, *parts.validation)
    if len({case.patient or case.name for case in cases}) < 2:
        raise InputError("has masks of one patient only", dataset.folder, "folds need two patients or more")
    return cases, (*dataset.notes, *split_dataset(dataset, job.seed, job.held_out).notes)


def begin(job: Study) -> None:
    """Make the folder, or go on with the same study in it; InputError where it holds another one."""
    require_writable(job.out)
    file = job.out / "job.json"
    if file.exists() and not job.overwrite:
        if read_json(file) != job.record:
            raise InputError("holds another study", job.out, "choose another --out or add --overwrite")
        return
    if job.out.exists() and any(job.out.iterdir()) and not file.exists():
        raise InputError("is not empty and holds no study", job.out, "choose another --out")
    for old in (job.out / TRIALS).glob("*.json"):
        old.unlink()
    write_text(file, to_json(job.record))


def make_trial(job: Study, training: Sequence[str], test: Sequence[str], source: Any) -> Trial:
    """One training with the study's options, of which those of a source are left out where there is none."""
    shared = {field.name: getattr(job, field.name) for field in fields(Trial) if hasattr(job, field.name)}
    if source == "none":
        shared |= {"transfer": Trial.transfer, "anchor": Trial.anchor}
    return Trial(**{**shared, "training": tuple(training), "test": tuple(test), "source": source, "labels": None})


def sha256_of(results: Iterable[Result], out: Path) -> str | None:
    """Of the source that these trials had, None without one; InputError where it was replaced between two of them."""
    found = {result.source_sha256 for result in results} - {None}
    if len(found) > 1:
        remedy = "give the source of the first ones its name again, or begin anew with --overwrite"
        raise InputError("holds trainings from two sources of the same name", out / TRIALS, remedy)
    return next(iter(found), None)


def by_patient(rows: Sequence[Mapping[str, Any]], measure: str = "dice", **where: Any) -> Dice:
    """Patient → mean of a measure over the rows that agree with `where`."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row[measure] is not None and all(row[key] == value for key, value in where.items()):
            found.setdefault(row["patient"], []).append(row[measure])
    return {patient: fmean(values) for patient, values in found.items()}
