"""Which λ, by cross-validation: every labelled patient is a test case once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.run import to_json
from napari_tlseg.data.tables import write_rows
from napari_tlseg.engine.running import noted
from napari_tlseg.events import Control, Event, Finished, Noted
from napari_tlseg.learn.metrics import paired_test
from napari_tlseg.studies.jobs import Crossval
from napari_tlseg.studies.recommend import mean_and_error, name, recommend
from napari_tlseg.studies.study import SCORES, TRIALS, begin, by_patient, make_trial, pool, sha256_of
from napari_tlseg.studies.trials import Result, make_folds, run_trials

Row = Mapping[str, Any]
HEADER = ("fold", "case", "patient", "lambda", "dice", "precision", "drift")
"""Of scores.csv; `lambda` is empty without a source."""


def crossval(job: Crossval, control: Control) -> Iterator[Event]:
    """A trial per fold with the source and one without; then the λ that they recommend."""
    began = time.monotonic()
    cases, notes = pool(job)
    yield from noted(notes)
    begin(job)
    folds = make_folds(cases, job.folds, job.seed)
    trials = {
        f"fold-{number}-{label}": make_trial(job, [case.name for case in cases if case.name not in fold], fold, source)
        for number, fold in enumerate(folds)
        for label, source in (("source", job.source), ("none", "none"))
    }
    results = yield from run_trials(trials, job.out / TRIALS, job.scheduler, control)
    if not results:
        yield Finished(reason="stopped", out=job.out)
        return
    rows = _rows(results, cases)
    write_rows(job.out / SCORES, HEADER, [[row[column] for column in HEADER] for row in rows])
    whole = len(results) == len(trials)
    summary = {
        "arms": arms_of(rows),
        "folds": len(folds),
        "trials": len(results),
        "of": len(trials),
        "source_sha256": sha256_of(results.values(), job.out),
        "seconds": time.monotonic() - began,
        **({} if not whole else recommended(rows)),
    }
    write_text(job.out / "summary.json", to_json(summary))
    if whole:
        yield Noted(text=summary["words"])
    yield Finished(reason="done" if whole else "stopped", out=job.out, summary=summary)


def _rows(results: Mapping[str, Result], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """One per case and arm."""
    patients = {case.name: case.patient or case.name for case in cases}
    return [
        {
            "fold": int(trial.split("-")[1]),
            "case": case,
            "patient": patients[case],
            "lambda": arm,
            "dice": dice,
            "precision": result.dice(arm, "precision").get(case),
            "drift": result.drift(arm),
        }
        for trial, result in results.items()
        for arm in result.arms
        for case, dice in result.dice(arm).items()
    ]


def arms_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of each arm mean and standard error over patients, and p of its Dice against that at λ = 0."""
    found, every = (
        [],
        {arm: by_patient(rows, **{"lambda": arm}) for arm in dict.fromkeys(row["lambda"] for row in rows)},
    )
    for arm, dice in every.items():
        precision = by_patient(rows, "precision", **{"lambda": arm})
        drifts = [row["drift"] for row in rows if row["lambda"] == arm and row["drift"] is not None]
        mean, error = mean_and_error(list(dice.values()))
        found.append(
            {
                "lambda": arm,
                "dice_mean": mean,
                "dice_se": error,
                "precision_mean": fmean(precision.values()) if precision else None,
                "drift": fmean(drifts) if drifts else None,
                "p_against_0": paired_test(dice, every.get(0.0, {})),
                "patients": len(dice),
            }
        )
    return found


def recommended(rows: Sequence[Row]) -> dict[str, Any]:
    """The λ to take, how sure that is, and in words."""
    arms = list(dict.fromkeys(row["lambda"] for row in rows))
    found = recommend({arm: by_patient(rows, **{"lambda": arm}) for arm in arms})
    return {"recommended": name(found.strength), **{k: getattr(found, k) for k in ("verdict", "gain", "p", "words")}}
