"""A path of λ in one run folder: every model, what the validation cases say of each, and the one they recommend."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.run import RunFolder, jsonable
from napari_tlseg.data.split import Part
from napari_tlseg.engine.finetuning import (
    Keeper,
    conclude,
    make_objective,
    recorded,
    segmenter_of,
)
from napari_tlseg.engine.focusing import keep_localizer
from napari_tlseg.engine.running import Outcome, Stopped, noted, read_samples
from napari_tlseg.engine.scoring import score_one, write_score_rows
from napari_tlseg.engine.settling import Setting, settle_job
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Noted, Reached
from napari_tlseg.learn.metrics import Score, case_means, summarize
from napari_tlseg.studies.drift import DriftCurve
from napari_tlseg.studies.jobs import LambdaPath
from napari_tlseg.studies.recommend import Arm, recommend
from napari_tlseg.studies.walk import Plan, walk
from napari_tlseg.studies.weights import Between, Weights, read_weights, write_weights

FOLDER = "path"
"""In a run folder: the weights by number, `path.json`, `scores.csv` with a column lambda."""
DEFAULT = 1e-3
"""The λ near which the run's own model is where no validation case can choose."""


def path(job: LambdaPath, control: Control) -> Iterator[Event]:
    """Train at every λ, keep and score each, then conclude the run with the recommended one."""
    RunFolder.check(job.out, job.overwrite)
    setting = settle_job(job, job.first)
    run = RunFolder.create(job.out, job.overwrite)
    yield from recorded(run, {"job": "path", **asdict(job)}, _events(job, setting, run, control))


def _events(job: LambdaPath, setting: Setting, run: RunFolder, control: Control) -> Generator[Event, None, None]:
    began = time.monotonic()
    yield from noted(setting.notes)
    samples = yield from read_samples(setting.material, "mask", control, keep_held_out=False)
    keep, objective = Keeper(setting, samples, run), make_objective(job, setting, samples)
    localizer = keep_localizer(setting.material.focusing, run)
    kept = _Kept(run.path / FOLDER, setting, keep.known, job.final_look)
    plan = Plan(steps=job.steps, more=max(2, round(job.warm * job.steps)), strengths=job.strengths, count=job.count)
    with closing(walk(plan, setting, objective, job.learning_rate, job.seed, control)) as events:
        for event in events:
            yield kept.add(event) if isinstance(event, Reached) else event
    if not kept.stages:
        raise Stopped
    strength, words = kept.choose()
    yield Noted(text=words)
    setting.model.load_state_dict(kept.weights[strength])
    if setting.anchor is not None:
        setting.anchor.strength = strength
    outcome = Outcome(reason="stopped" if control.stop else "done", steps=job.steps, strengths=[(1, strength)])
    more = {**localizer, "path": [asdict(stage) for stage in kept.stages], "recommendation": words}
    yield from conclude(keep, outcome, control, began, more)


@dataclass(eq=False)
class _Kept:
    """What there is of the path so far, in memory and on the disk."""

    folder: Path
    setting: Setting
    known: frozenset[str]
    final_look: bool
    stages: list[Reached] = field(default_factory=list)
    weights: dict[float, Weights] = field(default_factory=dict)
    scores: dict[float, list[Score]] = field(default_factory=dict)

    def add(self, reached: Reached) -> Reached:
        """Keep the model as it is now, and score it as it was kept."""
        strength, model = reached.strength or 0.0, self.setting.model
        base = next(iter(self.weights.values()), {})
        self.weights[strength] = write_weights(self.folder, len(self.stages), strength, model.state_dict(), base)
        model.load_state_dict(self.weights[strength])
        parts = self.setting.material.parts
        self.scores[strength] = self._scored("validation", parts.validation)
        if self.final_look:
            self.scores[strength] += self._scored("held-out", parts.held_out)
        fresh = [replace(score, seen=False) for score in self.scores[strength]]
        self.stages.append(replace(reached, scores=summarize(fresh, "validation")))
        write_text(self.folder / "path.json", json.dumps(jsonable(self.stages), indent=2, ensure_ascii=False) + "\n")
        rows = [(λ, score) for λ, scores in self.scores.items() for score in scores]
        write_score_rows(self.folder / "scores.csv", [score for _, score in rows], [{"lambda": λ} for λ, _ in rows])
        return self.stages[-1]

    def choose(self) -> tuple[float, str]:
        """The λ that validation recommends, and a sentence."""
        dice: dict[Arm, Mapping[str, float]] = {
            λ: case_means([s for s in scores if s.part == "validation"], "dice") for λ, scores in self.scores.items()
        }
        if not all(dice.values()):
            near = min(self.weights, key=lambda λ: abs(DriftCurve(free=1).share(λ) - DriftCurve(free=1).share(DEFAULT)))
            return near, f"No validation case can choose: the run's own model is that at λ = {near:g}."
        found = recommend(dice)
        assert found.strength is not None
        return found.strength, found.words

    def _scored(self, part: Part, cases: tuple[Case, ...]) -> list[Score]:
        segmenter = segmenter_of(self.setting)
        return [score for case in cases for score in score_one(segmenter, case, part, case.name in self.known)]


def read_path(run: Path) -> tuple[list[dict[str, Any]], Between]:
    """(what was said of each λ, the weights at any λ) of a run folder that holds a path."""
    file = run / FOLDER / "path.json"
    try:
        stages = json.loads(file.read_text(encoding="utf-8"))
        measured = [(float(stage["strength"]), float(stage["drift"])) for stage in stages]
    except FileNotFoundError:
        raise InputError("holds no path of λ", run, "make one with napari-tlseg path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot be read ({error})", file, "make the path anew") from None
    curve = DriftCurve(free=max(drift for _, drift in measured) * 1.001 or 1.0).through(measured)
    return stages, Between(read_weights(run / FOLDER, len(stages)), curve)
