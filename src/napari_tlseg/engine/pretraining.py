"""Cheap annotations, or masks of other images, to a source: a pretrained encoder in one file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.split import Annotation
from napari_tlseg.engine.pool import Pool, gather_pool, read_pool
from napari_tlseg.engine.running import Outcome, Samples, follow, noted, require_free
from napari_tlseg.engine.tagging import Tagged, tag
from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished
from napari_tlseg.learn.classify import Classify
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.fit import Schedule, evaluate, fit
from napari_tlseg.learn.hydra import Hydra
from napari_tlseg.learn.noisy import DROPOUT, NoisyStudent, fewer, noisy
from napari_tlseg.learn.objectives import Localize, Objective, Segment, pick_loss
from napari_tlseg.nets.checkpoint import Provenance, save
from napari_tlseg.nets.classifier import Classifier
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import AnyLocalizer, Localizer, make_localizer
from napari_tlseg.nets.hydranet import HydraNet
from napari_tlseg.nets.unet import UNet

Pretrained = AnyLocalizer | Classifier | UNet | HydraNet


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """All that is known before the first image is prepared."""

    pool: Pool
    model: Pretrained
    optimizer: torch.optim.Optimizer
    precision: torch.dtype


def pretrain(job: Pretrain, control: Control) -> Iterator[Event]:
    """Train a localizer, a U-Net or a HydraNet from `job.init`."""
    setting = settle_job(job)
    pool, model = setting.pool, setting.model
    yield from noted(pool.notes)
    read = yield from read_pool(pool, control)
    provenance = _provenance(job, pool, read)
    objective: Objective = make_objective(job, pool, read)
    _expect(model, objective)
    if job.teacher is not None:
        lesson = yield from tag(job, pool, control)
        objective = _noisy(job, setting, read, lesson)
        provenance = replace(provenance, seen=tuple(sorted({*provenance.seen, *lesson.seen})))

    def keep(outcome: Outcome, final: Mapping[str, float] | None = None) -> str:
        scores = {**outcome.scores, **{f"held_out_{name}": value for name, value in (final or {}).items()}}
        return save(job.out, model, replace(provenance, steps=outcome.steps, scores=scores))

    schedule = Schedule(steps=job.steps, patience=job.patience)
    optimizer, precision = setting.optimizer, setting.precision
    training = fit(model, objective, optimizer, schedule, precision=precision, seed=job.seed, control=control)
    outcome = yield from follow(training, job.steps, control, keep)
    final = evaluate(model, objective, [sample for samples in read for sample in samples.held_out], precision)
    summary = {
        "task": provenance.task,
        "steps": outcome.steps,
        "validation": {**outcome.scores, "cases": len(pool.validation)},
        "held_out": {**final, "cases": len(pool.held_out)},
        "sha256": keep(outcome, final),
    }
    yield Finished(reason=outcome.reason, out=job.out, summary=summary)


def settle_job(job: Pretrain) -> Setting:
    """Refuse what cannot be done, read the folders' headers and build the network; writes nothing."""
    if job.out.suffix != ".safetensors":
        raise InputError("is not the name of a source", job.out, "let it end in .safetensors")
    require_free(job.out, job.overwrite)
    device = pick_device(job.device)
    pool = gather_pool(job, _annotation(job))
    torch.manual_seed(job.seed)
    model = _model(job, pool)
    settle(model, device)
    return Setting(
        pool=pool,
        model=model,
        optimizer=_optimizer(job, model),
        precision=pick_precision(job.precision, device, learns_volumes=pool.patch is not None),
    )


def _annotation(job: Pretrain) -> Annotation:
    if job.task == "localize":
        return "click"
    return "label" if job.task == "classify" and (job.data[0] / "labels.csv").exists() else "mask"


def _model(job: Pretrain, pool: Pool) -> Pretrained:
    encoder = make_encoder(job.encoder, pool.channels, job.init)
    if job.task == "localize":
        return make_localizer(job.head, encoder, pool.size)
    if job.task == "classify":
        return Classifier(encoder, len(pool.labels))
    counts = [len(classes) for classes in pool.tasks.values()]
    return UNet(encoder, counts[0]) if len(counts) == 1 else HydraNet(encoder, counts)


def _optimizer(job: Pretrain, model: Pretrained) -> torch.optim.Optimizer:
    if isinstance(model, Localizer):  # as Hu et al.
        return torch.optim.RMSprop(model.parameters(), job.learning_rate)
    if isinstance(model, Classifier):  # Ranger, RAdam with lookahead, as Virk and Bathula
        from timm.optim.lookahead import Lookahead

        return Lookahead(torch.optim.RAdam(model.parameters(), job.learning_rate))  # type: ignore[no-untyped-call]
    return torch.optim.Adam(model.parameters(), job.learning_rate, fused=True)


def make_objective(job: Pretrain, pool: Pool, read: Sequence[Samples]) -> Localize | Classify | Segment | Hydra:
    """What is to be learned from the samples; a batch is shared out evenly among the datasets, rounded up."""
    augment, batch = pool.recipe.augment, math.ceil(job.per_step(pool.patch is not None) / len(read))
    if job.task == "localize":
        return Localize(read[0].training, read[0].validation, augment, batch)
    if job.task == "classify":
        return _classify(job, pool, read, augment)
    tasks = {
        name: Segment(
            samples.training, samples.validation, augment, batch, len(classes), pick_loss(job.loss, len(classes))
        )
        for (name, classes), samples in zip(pool.tasks.items(), read, strict=True)
    }
    return Hydra(tasks) if len(tasks) > 1 else tasks[pool.names[0]]


def _classify(job: Pretrain, pool: Pool, read: Sequence[Samples], augment: Augment) -> Classify:
    parts = read[0].training, read[0].validation
    return Classify(*parts, augment, job.per_step(volumes=False), pool.labels, pool.exclusive, job.gamma)


def _noisy(job: Pretrain, setting: Setting, read: Sequence[Samples], lesson: Tagged) -> NoisyStudent:
    """The labels and the pseudo-labels, under noise; that in the network goes with its training mode."""
    assert isinstance(setting.model, Classifier)
    setting.model.dropout.p = DROPOUT
    noise = noisy(setting.pool.recipe, setting.pool.materials[0].dataset.channels)
    step = job.per_step(volumes=False)
    batch = fewer(step, len(read[0].training), len(lesson.samples), step)
    return NoisyStudent(_classify(job, setting.pool, read, noise), lesson.samples, noise, batch)


def _expect(model: nn.Module, objective: Objective) -> None:
    """Tell a new decoder how rare its classes are."""
    if isinstance(model, UNet) and isinstance(objective, Segment):
        model.expect(objective.shares)
    elif isinstance(model, HydraNet) and isinstance(objective, Hydra):
        for number, task in enumerate(objective.tasks.values()):
            model.unet(number).expect(task.shares)


def _classes(pool: Pool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for classes in pool.tasks.values() for name in classes))


def _provenance(job: Pretrain, pool: Pool, read: Sequence[Samples]) -> Provenance:
    several = len(read) > 1
    return Provenance(
        task="hydra" if several else job.task,
        tasks=pool.tasks if several else {},
        head=job.head,
        encoder=job.encoder,
        in_channels=pool.channels,
        classes=pool.labels if job.task == "classify" else _classes(pool),
        recipe=pool.recipe.name,
        size=pool.size,
        patch=pool.patch,
        init=job.init if isinstance(job.init, str) else job.init.name,
        seen=tuple(sorted(frozenset().union(*(samples.seen for samples in read)))),
        trained_on=", ".join(pool.names),
        seed=job.seed,
    )
