"""The trials of a study: each a training and its scores, each kept in a file, here or on a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.run import jsonable
from napari_tlseg.data.split import rank
from napari_tlseg.engine.finetuning import make_objective, segmenter_of
from napari_tlseg.engine.running import Samples, read_samples
from napari_tlseg.engine.scoring import score_one
from napari_tlseg.engine.settling import Setting, settle_job
from napari_tlseg.events import Control, Event, Finished, Reached, Started, Visited
from napari_tlseg.learn.metrics import Measure, Score, case_means, summarize
from napari_tlseg.studies.jobs import Trial
from napari_tlseg.studies.places import place_of
from napari_tlseg.studies.recommend import Arm
from napari_tlseg.studies.walk import Plan, walk


def trial(job: Trial, control: Control) -> Iterator[Event]:
    """Train at each λ, and score the test cases there; without a source, once."""
    began = time.monotonic()
    setting = settle_job(job, job.first)
    samples = yield from read_samples(setting.material, "mask", control, keep_held_out=False)
    strengths = job.strengths if setting.anchor else (0.0,)
    stages: list[dict[str, Any]] = []
    for part in (strengths,) if job.warm else ((strength,) for strength in strengths):
        if stages:
            setting = settle_job(job, part[0])
        yield from _walk(job, setting, samples, part, stages, control)
        if control.stop:
            break
    whole = len(stages) == len(strengths)
    facts = {"seconds": time.monotonic() - began, "source_sha256": setting.provenance.source_sha256}
    summary = {"stages": stages, **facts} if whole else {}
    yield Finished(reason="done" if whole else "stopped", out=None, summary=summary)


def _walk(
    job: Trial,
    setting: Setting,
    samples: Samples,
    strengths: Sequence[float],
    stages: list[dict[str, Any]],
    control: Control,
) -> Iterator[Event]:
    """From the first λ to the last; what is found at each into `stages`."""
    objective = make_objective(job, setting, samples)
    plan = Plan(steps=job.steps, more=max(2, round(job.warm * job.steps)), strengths=strengths)
    with closing(walk(plan, setting, objective, job.learning_rate, job.seed, control)) as events:
        for event in events:
            if isinstance(event, Reached):
                segmenter = segmenter_of(setting)
                scores = [s for case in setting.material.parts.held_out for s in score_one(segmenter, case, "held-out")]
                event = replace(event, scores=summarize(scores, "held-out"))
                stages.append({"strength": event.strength, "drift": event.drift, "scores": list(map(asdict, scores))})
            yield event


def finish_trial(job: Trial) -> Mapping[str, Any]:
    """Run to the end, for an executor; its summary in plain types."""
    *_, last = job.run()
    assert isinstance(last, Finished)
    plain: Mapping[str, Any] = jsonable(last.summary)
    return plain


@dataclass(frozen=True)
class Result:
    """What a trial found, as its file holds it."""

    content: Mapping[str, Any]

    @property
    def arms(self) -> list[Arm]:
        return [None if stage["strength"] is None else float(stage["strength"]) for stage in self.content["stages"]]

    def dice(self, arm: Arm, measure: Measure = "dice") -> dict[str, float]:
        """Case → mean over its classes."""
        stage = self.content["stages"][self.arms.index(arm)]
        return case_means([Score(**score) for score in stage["scores"]], measure)

    @property
    def source_sha256(self) -> str | None:
        return self.content.get("source_sha256")

    def drift(self, arm: Arm) -> float | None:
        drift: float | None = self.content["stages"][self.arms.index(arm)]["drift"]
        return drift


def run_trials(
    trials: Mapping[str, Trial], folder: Path, scheduler: str | None, control: Control
) -> Generator[Event, None, dict[str, Result]]:
    """Those whose file is not there yet; the results of all that are through, by name.

    Whoever ends it loses the trials at work, and no other.
    """
    missing = {name: job for name, job in trials.items() if not _file(folder, name).exists()}
    if missing:
        with place_of(scheduler, next(iter(missing.values()))) as executor:
            work = _here(missing, folder, control) if executor is None else _on(executor, missing, folder, control)
            yield from work
    return {name: _read(_file(folder, name)) for name in trials if _file(folder, name).exists()}


def _here(trials: Mapping[str, Trial], folder: Path, control: Control) -> Iterator[Event]:
    """One after the other, with every step."""
    for number, (name, job) in enumerate(trials.items(), 1):
        for event in job.run(control):
            if isinstance(event, Finished):
                if event.reason == "stopped":
                    return
                _keep(folder, name, jsonable(event.summary))
                yield Visited(case=name, path=_file(folder, name))
            elif isinstance(event, Started):
                yield replace(event, stage=f"trial {number} of {len(trials)}, {name}: {event.stage}")
            else:
                yield event


def _on(executor: Executor, trials: Mapping[str, Trial], folder: Path, control: Control) -> Iterator[Event]:
    """As many at a time as there is place for; a file for each as it comes."""
    yield Started(stage="trials", total=len(trials))
    pending: dict[Future[Mapping[str, Any]], str] = {
        executor.submit(finish_trial, job): name for name, job in trials.items()
    }
    while pending:
        done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            name = pending.pop(future)
            _keep(folder, name, future.result())
            yield Visited(case=name, path=_file(folder, name))
        if control.stop:
            for future in pending:
                future.cancel()
            return


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _keep(folder: Path, name: str, summary: Any) -> None:
    write_text(_file(folder, name), json.dumps(summary, ensure_ascii=False) + "\n")


def _read(path: Path) -> Result:
    return Result(json.loads(path.read_text(encoding="utf-8")))


def make_folds(cases: Sequence[Case], count: int, seed: int) -> list[tuple[str, ...]]:
    """Names of the cases of each fold: a patient is in one, they are of about equal size, and the seed draws them.

    No more folds than there are patients.
    """
    patients: dict[str, list[str]] = {}
    for case in sorted(cases, key=lambda case: rank(seed, case.name)):
        patients.setdefault(case.patient or case.name, []).append(case.name)
    folds: list[list[str]] = [[] for _ in range(min(count, len(patients)))]
    for names in sorted(patients.values(), key=len, reverse=True):
        min(folds, key=len).extend(names)
    return [tuple(fold) for fold in folds]
