"""Cheap annotations to a source: a pretrained encoder in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from napari_tlseg.data.split import Annotation
from napari_tlseg.engine.jobs import Pretrain
from napari_tlseg.engine.running import Material, Outcome, Samples, follow, gather, noted, read_samples, require_free
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.fit import Schedule, evaluate, fit
from napari_tlseg.learn.objectives import Localize, Segment, pick_loss
from napari_tlseg.nets.checkpoint import Provenance, save
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import AnyLocalizer, Localizer, make_localizer
from napari_tlseg.nets.unet import UNet


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """All that is known before the first image is prepared."""

    material: Material
    annotation: Annotation
    model: AnyLocalizer | UNet
    optimizer: torch.optim.Optimizer
    precision: torch.dtype


def pretrain(job: Pretrain, control: Control) -> Iterator[Event]:
    """Train a localizer or a U-Net from `job.init`, and keep the best weights on validation cases."""
    setting = settle_job(job)
    material, model = setting.material, setting.model
    yield from noted(material.notes)
    samples = yield from read_samples(material, setting.annotation, control, keep_held_out=True)
    objective = make_objective(job, material, samples)
    if isinstance(model, UNet) and isinstance(objective, Segment):
        model.expect(objective.shares)
    provenance = _provenance(job, material, samples)

    def keep(outcome: Outcome, final: Mapping[str, float] | None = None) -> str:
        scores = {**outcome.scores, **{f"held_out_{name}": value for name, value in (final or {}).items()}}
        return save(job.out, model, replace(provenance, steps=outcome.steps, scores=scores))

    schedule = Schedule(steps=job.steps, patience=job.patience)
    optimizer, precision = setting.optimizer, setting.precision
    training = fit(model, objective, optimizer, schedule, precision=precision, seed=job.seed, control=control)
    outcome = yield from follow(training, job.steps, control, keep)
    final = evaluate(model, objective, samples.held_out, precision)
    summary = {
        "task": job.task,
        "steps": outcome.steps,
        "validation": {**outcome.scores, "cases": len(material.parts.validation)},
        "held_out": {**final, "cases": len(material.parts.held_out)},
        "sha256": keep(outcome, final),
    }
    yield Finished(reason=outcome.reason, out=job.out, summary=summary)


def settle_job(job: Pretrain) -> Setting:
    """Refuse what cannot be done, read the folder's headers and build the network; writes nothing."""
    if job.out.suffix != ".safetensors":
        raise InputError("is not the name of a source", job.out, "let it end in .safetensors")
    require_free(job.out, job.overwrite)
    device = pick_device(job.device)
    annotation: Annotation = "click" if job.task == "localize" else "mask"
    material = gather(job, annotation)
    torch.manual_seed(job.seed)
    encoder, classes = make_encoder(job.encoder, material.channels, job.init), len(material.dataset.classes)
    localizes = job.task == "localize"
    model = make_localizer(job.head, encoder, material.size) if localizes else UNet(encoder, classes)
    settle(model, device)
    return Setting(
        material=material,
        annotation=annotation,
        model=model,
        optimizer=_optimizer(job, model),
        precision=pick_precision(job.precision, device),
    )


def _optimizer(job: Pretrain, model: AnyLocalizer | UNet) -> torch.optim.Optimizer:
    if isinstance(model, Localizer):  # as Hu et al.
        return torch.optim.RMSprop(model.parameters(), job.learning_rate)
    return torch.optim.Adam(model.parameters(), job.learning_rate, fused=True)


def make_objective(job: Pretrain, material: Material, samples: Samples) -> Localize | Segment:
    """What is to be learned from the samples."""
    augment, classes = material.recipe.augment, len(material.dataset.classes)
    if job.task == "localize":
        return Localize(samples.training, samples.validation, augment, job.batch)
    loss = pick_loss(job.loss, classes)
    return Segment(samples.training, samples.validation, augment, job.batch, classes, loss)


def _provenance(job: Pretrain, material: Material, samples: Samples) -> Provenance:
    return Provenance(
        task=job.task,
        head=job.head,
        encoder=job.encoder,
        in_channels=material.channels,
        classes=material.dataset.classes,
        recipe=material.recipe.name,
        size=material.size,
        init=job.init if isinstance(job.init, str) else job.init.name,
        seen=tuple(sorted(samples.seen)),
        trained_on=material.dataset.folder.resolve().name,
        seed=job.seed,
    )
