"""What more masks bring: Dice against the number of masks, for each source and without (Hu et al., fig. 2)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.run import to_json
from napari_tlseg.data.split import rank
from napari_tlseg.data.tables import write_rows
from napari_tlseg.engine.running import noted
from napari_tlseg.events import Control, Event, Finished, Noted
from napari_tlseg.learn.metrics import paired_test
from napari_tlseg.options import Origin
from napari_tlseg.studies.jobs import Efficiency
from napari_tlseg.studies.recommend import Arm, Dice, mean_and_error
from napari_tlseg.studies.study import SCORES, TRIALS, begin, by_patient, make_trial, pool, sha256_of
from napari_tlseg.studies.trials import Result, make_folds, run_trials

Row = dict[str, Any]
MORE = 10
"""Masks; so many more is what the words are about."""
HEADER = ("source", "masks", "fold", "case", "patient", "lambda", "dice", "chosen")
"""Of scores.csv; `chosen`: whether it is the λ that the other folds choose."""


def efficiency(job: Efficiency, control: Control) -> Iterator[Event]:
    """A trial per source, number of masks and fold; λ of a fold is chosen by the other folds."""
    began = time.monotonic()
    cases, notes = pool(job)
    yield from noted(notes)
    begin(job)
    folds = make_folds(cases, job.folds, job.seed)
    most = len(cases) - max(map(len, folds))
    if too_many := [size for size in job.sizes if size > most]:
        yield Noted(text=f"With {len(folds)} folds there are {most} masks to train on: {too_many} are left out.")
    keys = {
        f"{label}-{size}-fold-{number}": (label, size, number)
        for size in job.sizes
        if size <= most
        for label in labels_of(job.sources)
        for number in range(len(folds))
    }
    sources = labels_of(job.sources)
    trials = {
        key: make_trial(job, _draw(cases, folds[number], size, job.seed), folds[number], sources[label])
        for key, (label, size, number) in keys.items()
    }
    results = yield from run_trials(trials, job.out / TRIALS, job.scheduler, control)
    if not results:
        yield Finished(reason="stopped", out=job.out)
        return
    rows = mark_chosen([row for key, result in results.items() for row in _rows(keys[key], result, cases)])
    write_rows(job.out / SCORES, HEADER, [[row[column] for column in HEADER] for row in rows])
    whole = len(results) == len(trials)
    shas = {label: sha256_of((r for key, r in results.items() if keys[key][0] == label), job.out) for label in sources}
    summary = {
        "efficiency": summarize_rows(rows),
        "trials": len(results),
        "of": len(trials),
        "source_sha256": {label: sha for label, sha in shas.items() if sha},
        "seconds": time.monotonic() - began,
        "words": what_more_brings(rows),
    }
    write_text(job.out / "summary.json", to_json(summary))
    yield Finished(reason="done" if whole else "stopped", out=job.out, summary=summary)


def labels_of(sources: Sequence[str]) -> dict[str, str | Path]:
    """A short name for each: none, imagenet, medicalnet, or that of the file, with a number where two are alike."""
    found: dict[str, str | Path] = {}
    for source in sources:
        plain = source in get_args(Origin)
        label = source if plain else Path(source).stem
        while label in found:
            label += "+"
        found[label] = source if plain else Path(source)
    return found


def mark_chosen(rows: list[Row]) -> list[Row]:
    """Each row with `chosen`: whether its λ has the best mean Dice in the *other* folds of its source and number.

    So the scores of a fold have no part in the choice of its own λ.
    """
    for row in rows:
        alike = [r for r in rows if (r["source"], r["masks"]) == (row["source"], row["masks"])]
        row["chosen"] = row["lambda"] == _best([r for r in alike if r["fold"] != row["fold"]] or alike)
    return rows


def summarize_rows(rows: Sequence[Row]) -> list[Row]:
    """A row per source and number of masks: Dice at the chosen λ and at both ends, and p against no source."""
    found = []
    for source, masks in dict.fromkeys((row["source"], row["masks"]) for row in rows):
        own = {"source": source, "masks": masks}
        chosen, scratch = by_patient(rows, **own, chosen=True), by_patient(rows, source="none", masks=masks)
        mean, error = mean_and_error(list(chosen.values()))
        ends = {f"λ = {label}": _mean([r for r in rows if r["lambda"] == λ], own) for label, λ in ENDS.items()}
        p = paired_test(chosen, scratch) if source != "none" else None
        found.append(own | {"dice_mean": mean, "dice_se": error, "patients": len(chosen), **ends, "p": p})
    return found


ENDS = {"∞": math.inf, "0": 0.0}


def what_more_brings(rows: Sequence[Row]) -> str:
    """In words, for the best source: if what a doubling of the masks brought last holds for ten more."""
    sizes = sorted({row["masks"] for row in rows})
    if len(sizes) < 2:
        return "One number of masks says nothing of what more would bring."
    before, last = sizes[-2:]
    sources = [source for source in dict.fromkeys(row["source"] for row in rows) if _at(rows, source, last)]
    best = max(sources, key=lambda source: fmean(_at(rows, source, last).values()))
    earlier, later = _at(rows, best, before), _at(rows, best, last)
    if not (pairs := earlier.keys() & later.keys()):
        return f"{last} masks are not yet tried."
    gain, error = mean_and_error([(later[patient] - earlier[patient]) / math.log2(last / before) for patient in pairs])
    doublings = math.log2((last + MORE) / last)
    likely = f"{MORE} more masks ({last} → {last + MORE}, source {best}) would likely bring {gain * doublings:+.3f}"
    if error is None or abs(gain) <= 2 * error:
        return f"{likely} Dice, which these data cannot tell from nothing."
    return f"{likely} ± {error * doublings:.3f} Dice, if each doubling brings what the last one did."


def _draw(cases: Sequence[Case], test: Sequence[str], size: int, seed: int) -> list[str]:
    """The masks for a number: those for fewer are among them."""
    return sorted((case.name for case in cases if case.name not in test), key=lambda name: rank(seed, name))[:size]


def _rows(key: tuple[str, int, int], result: Result, cases: Sequence[Case]) -> Iterator[Row]:
    patients = {case.name: case.patient or case.name for case in cases}
    own = dict(zip(("source", "masks", "fold"), key, strict=True))
    for arm in result.arms:
        for case, dice in result.dice(arm).items():
            yield {**own, "case": case, "patient": patients[case], "lambda": arm, "dice": dice}


def _best(rows: Sequence[Row]) -> Arm:
    """Of equals the larger λ."""
    arms = dict.fromkeys(row["lambda"] for row in rows)
    means = {arm: fmean(row["dice"] for row in rows if row["lambda"] == arm) for arm in arms}
    best: Arm = max(means, key=lambda arm: (means[arm], -1 if arm is None else arm))
    return best


def _at(rows: Sequence[Row], source: str, masks: int) -> Dice:
    return by_patient(rows, source=source, masks=masks, chosen=True)


def _mean(rows: Sequence[Row], own: Mapping[str, Any]) -> float | None:
    dice = by_patient(rows, **own)
    return fmean(dice.values()) if dice else None
