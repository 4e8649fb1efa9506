"""How long a training will last: a few of its steps, on noise."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from napari_tlseg.data.case import Case
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.run import RunFolder
from napari_tlseg.data.split import Annotation, Parts
from napari_tlseg.engine import finetuning, pretraining
from napari_tlseg.engine.pool import Pool
from napari_tlseg.engine.pretraining import Pretrained
from napari_tlseg.engine.running import Material, Samples, Stopped, guarded
from napari_tlseg.engine.settling import settle_finetune
from napari_tlseg.engine.trainings import Estimate, Finetune, Pretrain
from napari_tlseg.events import Control, Event, Finished, Stepped
from napari_tlseg.learn.anchor import Anchor
from napari_tlseg.learn.fit import Schedule, evaluate, fit
from napari_tlseg.learn.objectives import Objective
from napari_tlseg.learn.samples import Sample
from napari_tlseg.options import Norm

LOOKS_EVERY = Schedule.evaluate_every
CHUNK = 8
"""Planes or patches that a look puts through the network at once."""
TIMED, ENOUGH = 3, 2.0
"""So many steps are timed, fewer where they take more than so many seconds; one before them warms up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """A training that is ready to begin, but for its samples."""

    parts: Mapping[str, int]
    """How many cases are in each."""
    size: int
    batch: int
    model: Pretrained
    objective: Objective
    optimizer: torch.optim.Optimizer
    precision: torch.dtype
    encoder: str
    anchor: Anchor | None = None
    norm: Norm = "target"


def estimate(job: Estimate, control: Control) -> Iterator[Event]:
    """Build the network, take a few steps and one look, and multiply; what the training would refuse is refused."""
    training = replace(job.of, unreadable=job.unreadable)
    return guarded(_estimate(training, control), training.relief)


def _estimate(job: Pretrain | Finetune, control: Control) -> Iterator[Event]:
    trial = _trial_pretrain(job) if isinstance(job, Pretrain) else _trial_finetune(job)
    endless = Schedule(steps=10**9, evaluate_every=10**9)
    training = fit(
        trial.model,
        trial.objective,
        trial.optimizer,
        endless,
        anchor=trial.anchor,
        norm=trial.norm,
        precision=trial.precision,
        seed=job.seed,
        control=control,
    )
    step = _seconds_per_step(training)
    if control.stop:
        raise Stopped
    summary = {
        "seconds": job.steps * step + math.ceil(job.steps / LOOKS_EVERY) * _seconds_per_look(trial),
        "seconds_per_step": step,
        "size": trial.size,
        "encoder": trial.encoder,
        "batch": trial.batch,
        **trial.parts,
    }
    yield Finished(reason="done", out=None, summary=summary)


def _trial_pretrain(job: Pretrain) -> _Trial:
    setting = pretraining.settle_job(job)
    pool = setting.pool
    noise = [_noise(found, pool.annotation, pool.channels, task) for task, found in enumerate(pool.materials)]
    return _Trial(
        parts=_count(pool),
        size=pool.size,
        batch=job.per_step(pool.patch is not None),
        model=setting.model,
        objective=pretraining.make_objective(job, pool, noise),
        optimizer=setting.optimizer,
        precision=setting.precision,
        encoder=job.encoder,
    )


def _trial_finetune(job: Finetune) -> _Trial:
    RunFolder.check(job.out, job.overwrite)
    setting = settle_finetune(job)
    return _Trial(
        parts=_count(setting.material.parts),
        size=setting.material.size,
        batch=job.per_step(setting.material.patch is not None),
        model=setting.model,
        objective=finetuning.make_objective(job, setting, _noise(setting.material, "mask", setting.material.channels)),
        optimizer=setting.optimizer,
        precision=setting.precision,
        encoder=setting.provenance.encoder,
        anchor=setting.anchor,
        norm=setting.provenance.norm,
    )


def _count(parts: Parts | Pool) -> dict[str, int]:
    return {name: len(getattr(parts, name)) for name in ("training", "validation", "held_out")}


def _noise(material: Material, annotation: Annotation, channels: int, task: int = 0) -> Samples:
    """One training sample, and as many validation samples as there are planes or patches: all the same noise."""
    size, classes = material.size, len(material.dataset.classes)
    shape = material.patch.shape if material.patch else (size, size)
    rng = np.random.default_rng(material.seed)
    sample = Sample(
        case="noise",
        image=rng.random((channels, *shape), np.float32).astype(np.float16),
        frame=Letterbox((size, size), size),
        labels=rng.integers(0, classes, shape, np.uint8) if annotation == "mask" else None,
        point=(size / 2, size / 2) if annotation == "click" else None,
        tags=tuple(rng.integers(0, 2, len(material.dataset.labels)).tolist()) if annotation == "label" else None,
        task=task,
    )
    names = (case.name for case in material.parts.validation for _ in _looks(case, material, annotation))
    return Samples(
        training=[sample],
        validation=[replace(sample, case=name) for name in names],
        held_out=[],
        fingerprints={},
    )


def _looks(case: Case, material: Material, annotation: Annotation) -> Iterable[object]:
    """One for each of its samples."""
    if material.patch:
        return material.patch.tiles((case.geometry.plane_shape[0], material.size, material.size))
    return case.planes if annotation == "mask" else (0,)


def _seconds_per_step(training: Generator[Event, None, None]) -> float:
    """The median of a few steps; infinite where it is stopped before there is one."""
    took: list[float] = []
    with closing(training):
        began = time.perf_counter()
        for event in training:
            if isinstance(event, Stepped):
                took.append(time.perf_counter() - began)
                began += took[-1]
            if len(took) > TIMED or (len(took) > 1 and sum(took) > ENOUGH):
                break
    return median(took[1:] or [math.inf])


def _seconds_per_look(trial: _Trial) -> float:
    """A look at the validation cases, from a second one at the first few planes."""
    planes, took = trial.objective.validation, 0.0
    for _ in range(2):
        began = time.perf_counter()
        evaluate(trial.model, trial.objective, planes[:CHUNK], trial.precision)
        took = time.perf_counter() - began
    return took * len(planes) / min(len(planes), CHUNK) if planes else 0.0
