"""Few masks and a source to a run: a segmentation model, its scores, and all that is needed to trust them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.case import Case
from napari_tlseg.data.run import RunFolder
from napari_tlseg.engine.focusing import focused, keep_localizer
from napari_tlseg.engine.running import Outcome, Samples, follow, noted, read_samples
from napari_tlseg.engine.scoring import score_run, summarize_validation
from napari_tlseg.engine.settling import Setting, name_of, settle_finetune
from napari_tlseg.engine.trainings import Anchored, Finetune
from napari_tlseg.events import Control, Event, Finished
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.metrics import Score, summarize
from napari_tlseg.learn.objectives import Objective, Segment, pick_loss
from napari_tlseg.learn.predict import Segmenter, make_segmenter
from napari_tlseg.nets.checkpoint import save


def finetune(job: Finetune, control: Control) -> Iterator[Event]:
    """Train, keep good weights at once, then score validation and held-out cases on their native grid."""
    RunFolder.check(job.out, job.overwrite)
    setting = settle_finetune(job)
    run = RunFolder.create(job.out, job.overwrite)
    yield from recorded(run, {"job": "finetune", **asdict(job)}, _events(job, setting, run, control))


def recorded(run: RunFolder, job: Mapping[str, Any], events: Generator[Event, None, None]) -> Iterator[Event]:
    """The events, which the run folder keeps; where they fail before there is a model, the folder goes again."""
    try:
        run.write_job(job)
        with closing(events):
            for event in events:
                run.append_event({"event": type(event).__name__, **asdict(event)})
                yield event
    except BaseException:
        if not run.model.exists():
            run.discard()
        raise


def _events(job: Finetune, setting: Setting, run: RunFolder, control: Control) -> Generator[Event, None, None]:
    began = time.monotonic()
    yield from noted(setting.notes)
    samples = yield from read_samples(setting.material, "mask", control, keep_held_out=False)
    yield from train(job, Keeper(setting, samples, run), make_objective(job, setting, samples), control, began)


def train(
    job: Finetune,
    keep: Keeper,
    objective: Objective,
    control: Control,
    began: float,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Generator[Event, None, None]:
    """Fit the model to an objective, then conclude the run, with `more` in its summary."""
    setting = keep.setting
    localizer = keep_localizer(setting.material.focusing, keep.run)
    training = fit(
        setting.model,
        objective,
        setting.optimizer,
        Schedule(steps=job.steps, patience=job.patience),
        anchor=setting.anchor,
        norm=setting.provenance.norm,
        precision=setting.precision,
        seed=job.seed,
        control=control,
    )
    outcome = yield from follow(training, job.steps, control, keep)
    yield from conclude(keep, outcome, control, began, {**localizer, **more})


@dataclass(frozen=True, eq=False)
class Keeper:
    """Writes the model of a run, with what it has seen."""

    setting: Setting
    samples: Samples
    run: RunFolder

    def __call__(self, outcome: Outcome) -> str:
        """Whole or not at all; the SHA-256 of the weights. A run folder that was removed is not made again."""
        self.run.path.stat()
        strength = outcome.strengths[-1][1] if outcome.strengths else 0.0
        seen = tuple(sorted(self.samples.seen | self.before))
        facts = replace(self.setting.provenance, strength=strength, seen=seen)
        return save(self.run.model, self.setting.model, replace(facts, steps=outcome.steps, scores=outcome.scores))

    @property
    def before(self) -> frozenset[str]:
        """Fingerprints of what the source, the start, the localizer and the teacher were trained on."""
        start, focusing = self.setting.start, self.setting.material.focusing
        others = (start.provenance.seen if start else ()), (focusing.locator.provenance.seen if focusing else ())
        return self.setting.source.seen.union(*others, self.setting.taught - self.samples.seen)

    @property
    def known(self) -> frozenset[str]:
        """The names of the cases that are among those."""
        return frozenset(name for name, found in self.samples.fingerprints.items() if found in self.before)


def conclude(
    keep: Keeper, outcome: Outcome, control: Control, began: float, more: Mapping[str, Any]
) -> Generator[Event, None, None]:
    """Keep the model as it is now, score it, and write the summary, with `more` in it."""
    setting, sha256 = keep.setting, keep(outcome)
    seconds = time.monotonic() - began
    segmenter = segmenter_of(setting)
    scores = yield from score_run(segmenter, setting.material, keep.known, keep.run, control, _known_by(setting))
    if control.stop:
        outcome.reason = "stopped"
    summary = _summary(setting, outcome, scores) | {"sha256": sha256, **more, "seconds": seconds}
    keep.run.write_summary(summary)
    yield Finished(reason=outcome.reason, out=keep.run.path, summary=summary)


def segmenter_of(setting: Setting) -> Segmenter:
    """The model as it is now, with all that it takes to segment an image."""
    plain = make_segmenter(setting.model, setting.provenance, precision=setting.precision)
    return focused(plain, setting.material.focusing)


def make_objective(job: Anchored, setting: Setting, samples: Samples, augment: Augment | None = None) -> Segment:
    """What is to be learned from the samples, varied as the recipe says or so; an untrained model is told how rare
    each class is.
    """
    classes = len(setting.material.dataset.classes)
    augment, loss = augment or setting.material.recipe.augment, pick_loss(job.loss, classes)
    if (focusing := setting.material.focusing) is not None:
        augment = focusing.focus.augment(augment)
    batch = job.per_step(setting.material.patch is not None)
    objective = Segment(samples.training, samples.validation, augment, batch, classes, loss)
    if setting.start is None:  # whose decoder knows them
        setting.model.expect(objective.shares)
    return objective


def _summary(setting: Setting, outcome: Outcome, scores: list[Score]) -> dict[str, Any]:
    parts, facts = setting.material.parts, setting.provenance
    return {
        "lambda": outcome.strengths[-1][1] if outcome.strengths else 0.0,
        **({"lambda_history": outcome.strengths} if len(outcome.strengths) > 1 else {}),
        "drift": setting.anchor.drift() if setting.anchor else None,
        "source": setting.source.name,
        "source_sha256": facts.source_sha256,
        **({"start": name_of(setting.start), "start_sha256": setting.start.sha256} if setting.start else {}),
        **{name: getattr(facts, name) for name in ("encoder", "solver", "norm", "transfer", "recipe", "size", "seed")},
        "reason": outcome.reason,
        "steps": outcome.steps,
        **summarize(scores, "held-out"),
        "cases": _names(parts.held_out),
        "validation": {**summarize_validation(scores), "cases": _names(parts.validation)},
        "training": {"cases": _names(parts.training)},
    }


def _known_by(setting: Setting) -> str:
    """Who may have seen a case before, in words."""
    others = (
        ("the start", setting.start),
        ("the localizer", setting.material.focusing),
        ("the teacher", setting.taught),
    )
    return " or ".join(("the source", *(name for name, there in others if there)))


def _names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]
