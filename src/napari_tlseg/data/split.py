"""Which cases are trained on, which pick the model, and which are a final look: by patient, once and for all."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.files import writable
from napari_tlseg.data.tables import read_rows, write_rows
from napari_tlseg.errors import InputError

Part = Literal["training", "validation", "held-out"]
Annotation = Literal["mask", "click", "label"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
FEW = 5
"""With fewer annotated cases than this there is no validation."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The part of every case, by name; `held_out` is the fraction that was asked for."""

    parts: Mapping[str, Part]
    held_out: float = 0.2
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The annotated cases one run works with."""

    training: tuple[Case, ...]
    validation: tuple[Case, ...] = ()
    held_out: tuple[Case, ...] = ()
    notes: tuple[str, ...] = ()


def split_dataset(dataset: Dataset, seed: int, held_out: float = 0.2, validation: float = 0.2) -> Split:
    """The dataset's split.csv, completed for cases it does not know yet, and written where the folder allows it."""
    known = read_split(dataset.folder)
    parts = assign(dataset, seed, held_out, validation, known=known)
    notes = []
    if gone := known.keys() - {case.name for case in dataset}:
        notes.append(f"split.csv names {len(gone)} cases that have no image here.")
    kept = Counter(parts.values())["held-out"]
    if known and abs(kept - held_out * len(parts)) >= max(1, 0.1 * len(parts)):
        asked = f"whatever --held-out {held_out:g} asks for"
        notes.append(f"{kept} of {len(parts)} cases stay held out, as split.csv says, {asked}; delete it to draw anew.")
    if parts != known:
        if writable(dataset.folder):
            write_rows(dataset.folder / "split.csv", ("case", "part"), list(parts.items()))
        else:
            notes.append("The dataset folder is read-only: the split is drawn from the seed and not kept.")
    return Split(parts=parts, held_out=held_out, notes=tuple(notes))


def read_split(folder: Path) -> dict[str, Part]:
    """Case name → part, as split.csv says; empty where there is none."""
    path = folder / "split.csv"
    parts: dict[str, Part] = {}
    for row in read_rows(path, ("case", "part")):
        part = next((part for part in PARTS if part == row["part"]), None)
        if part is None:
            raise row.error(f"{row['part']!r} is no part", f"expected {', '.join(PARTS)}")
        if row["case"] in parts:
            raise row.error(f"case {row['case']!r} appears twice", "delete one of the lines")
        parts[row["case"]] = part
    return parts


def assign(
    dataset: Dataset, seed: int, held_out: float = 0.2, validation: float = 0.2, known: Mapping[str, Part] | None = None
) -> dict[str, Part]:
    """A part for every case; `known` ones never move, and a patient's cases stay together.

    New patients come in the seed's order, each to the part most below its share, first those with masks, then those
    with clicks, then the rest: so that each kind of annotation is balanced in itself. `validation` is a fraction of
    what is not held out.
    """
    for name, fraction in (("held-out", held_out), ("validation", validation)):
        if not 0 <= fraction < 1:
            raise InputError(f"the {name} fraction is {fraction}, expected one from 0 up to but not 1")
    parts = dict(known or {})
    patients = _patient_parts(dataset, parts)
    for cases in (dataset.labelled, dataset.clicked, dataset.cases):
        _balance(patients, Counter(map(_patient, cases)), seed, held_out, validation)
    return parts | {case.name: patients[_patient(case)] for case in dataset}


def choose(
    dataset: Dataset, split: Split, labels: int | None = None, annotation: Annotation = "mask", seed: int = 0
) -> Parts:
    """The annotated cases of each part, or `labels` of them for training and validation together.

    Fewer than five leave no validation. The choice for N is part of that for N + 1, as far as the counts allow, and
    does not depend on which other cases there are.
    """
    cases = {"mask": dataset.labelled, "click": dataset.clicked, "label": dataset.tagged}[annotation]
    _require_enough(dataset, cases, split, annotation)
    pools: dict[Part, list[Case]] = {part: [] for part in PARTS}
    for case in sorted(cases, key=lambda case: rank(seed, case.name)):
        pools[split.parts[case.name]].append(case)
    training, validation, notes = _draw(dataset, pools["training"], pools["validation"], labels, annotation)
    if split.held_out and not pools["held-out"]:
        notes.append(f"No held-out case has a {annotation}: there is no final look at unseen cases.")
    return Parts(
        training=tuple(training), validation=tuple(validation), held_out=tuple(pools["held-out"]), notes=tuple(notes)
    )


def _draw(
    dataset: Dataset, training: list[Case], validation: list[Case], labels: int | None, annotation: Annotation
) -> tuple[list[Case], list[Case], list[str]]:
    available = len(training) + len(validation)
    count = available if labels is None else labels
    if not 1 <= count <= available:
        raise InputError(
            f"{count} {annotation}s were asked for, {available} are there outside the held-out cases",
            dataset.folder,
            f"choose --labels from 1 to {available}"
            if available
            else f"add a {annotation} to a case that is not held out",
        )
    if count < FEW:
        return (training + validation)[:count], [], [f"Fewer than {FEW} {annotation}s: there is no validation."]
    if not training:
        raise InputError(f"no training case has a {annotation}", dataset.folder / "split.csv", "delete it to draw anew")
    picked = min(max(round(0.2 * count), count - len(training), 1), len(validation))
    return (
        training[: count - picked],
        validation[:picked],
        [] if picked else [f"No validation case has a {annotation}."],
    )


def _require_enough(dataset: Dataset, cases: Sequence[Case], split: Split, annotation: Annotation) -> None:
    if not cases:
        raise InputError(f"has no {annotation}s", dataset.folder, "add one for at least one image")
    if split.held_out and len(set(map(_patient, cases))) < 2:
        which = "only one case has" if len(cases) == 1 else "only cases of one patient have"
        raise InputError(
            f"there is nothing to hold out, {which} a {annotation}",
            dataset.folder,
            "annotate another patient or use --held-out 0",
        )


def _patient_parts(dataset: Dataset, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Patient → part, of those whose cases have one already."""
    found: dict[str, dict[Part, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case in dataset:
        if case.name in parts:
            found[_patient(case)][parts[case.name]].append(case.name)
    for patient, places in found.items():
        if len(places) > 1:
            where = ", ".join(f"{part} ({', '.join(names)})" for part, names in places.items())
            raise InputError(
                f"patient {patient!r} is in two parts: {where}",
                dataset.folder / "split.csv",
                "give the patient one part, or delete the file to draw anew",
            )
    return {patient: next(iter(places)) for patient, places in found.items()}


def _balance(patients: dict[str, Part], cases: Counter[str], seed: int, held_out: float, validation: float) -> None:
    """Give every patient of `cases` (patient → number of cases) that has no part yet the part most below its share."""
    missing = _shares(cases.total(), held_out, validation)
    for patient in cases.keys() & patients.keys():
        missing[patients[patient]] -= cases[patient]
    new = sorted(cases.keys() - patients.keys(), key=lambda patient: rank(seed, patient))
    if new and len(cases) > 1 and held_out and "held-out" not in {patients.get(patient) for patient in cases}:
        best = min(new, key=lambda patient: abs(cases[patient] - missing["held-out"]))
        new.insert(0, new.pop(new.index(best)))
        patients[best] = "held-out"
    for patient in new:
        part = patients.setdefault(patient, max(missing, key=missing.__getitem__))
        missing[part] -= cases[patient]


def _shares(total: int, held_out: float, validation: float) -> dict[Part, int]:
    kept = total - round(held_out * total)
    picked = round(validation * kept)
    return {"training": kept - picked, "validation": picked, "held-out": total - kept}


def rank(seed: int, name: str) -> bytes:
    """A place in the seed's order that does not depend on what else there is."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _patient(case: Case) -> str:
    return case.patient or case.name
